#!/bin/bash
# Tests of the emulated KVM host itself. Prints "ok"/"not ok" lines; exit status 1 if one failed.
# About three minutes, most of it booting.
set -u
here=$(cd "$(dirname "$0")" && pwd -P)
run=$here/run
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0

result() { # result STATUS DESCRIPTION [DETAIL]
	if [ "$1" -eq 0 ]; then
		echo "ok $2"
	else
		echo "not ok $2"
		[ -n "${3-}" ] && echo "# ${3//$'\n'/$'\n'# }"
		failed=1
	fi
}

is() { # is DESCRIPTION EXPECTED GOT
	[ "$2" = "$3" ]
	result $? "$1" "expected: $2
got: $3"
}

# How many of QEMU's processes have $1 on their command line.
machines() {
	grep -lsaF -- "$1" /proc/[0-9]*/cmdline 2>/dev/null | while read -r file; do
		[ -r "$file" ] || continue # grep itself
		[ "$(tr '\0' '\n' 2>/dev/null <"$file" | head -n 1)" = qemu-system-x86_64 ] && echo "$file"
	done | wc -l
}

gone_within() { # gone_within SECONDS MARK
	local i
	for ((i = 0; i < $1 * 10; i++)); do
		[ "$(machines "$2")" -eq 0 ] && return 0
		sleep 0.1
	done
	return 1
}

wait_for_machine() { # until a command inside has made FILE below --out
	local i
	for ((i = 0; i < 600; i++)); do
		[ -e "$1" ] && return 0
		sleep 0.1
	done
	return 1
}

# --- exit statuses, streams, arguments
for status in 0 1 42 255; do
	"$run" sh -c "exit $status" </dev/null
	is "exit status $status" "$status" $?
done
"$run" sh -c 'kill -9 $$' </dev/null
is "killed by signal 9" 137 $?
output=$("$run" /no/such/program </dev/null 2>&1)
is "a program that does not exist" 127 $?
is "is named" "machine: /no/such/program: No such file or directory" "$output"

"$run" sh -c 'seq 1 6500000; seq 9000000 -1 2500000 >&2' </dev/null >out 2>err
is "50 MB on each stream: status" 0 $?
is "50 MB on standard output" "$(seq 1 6500000 | sha256sum)" "$(sha256sum <out)"
is "50 MB on standard error" "$(seq 9000000 -1 2500000 | sha256sum)" "$(sha256sum <err)"
rm -f out err

arguments=('a b' '' "it's" '"double"' '$HOME `id` \n' $'two\nlines' $'tab\there' '*' '-n' $'\xff\xfe' 'ü')
expected=$(printf '<%s>' "${arguments[@]}" | sha256sum)
output=$("$run" -- printf '<%s>' "${arguments[@]}" </dev/null | sha256sum)
is "arguments arrive as they are" "$expected" "$output"

mkdir 'a "strange" directory'
output=$(cd 'a "strange" directory' && HULL_TEST='x y' OTHER=1 "$run" sh -c 'pwd; echo "$HULL_TEST|${OTHER-none}"; id -u' </dev/null)
is "directory, HULL_ variables, root" "$work/a \"strange\" directory
x y|none
0" "$output"
output=$(head -c 20000000 /dev/urandom | tee random | "$run" sha256sum)
is "20 MB through standard input" "$(sha256sum <random)" "$output"
rm -f random
"$run" yes </dev/null 2>err | head -n 1 >out
is "a reader that goes away ends the machine" "141 y" "${PIPESTATUS[0]} $(cat out)"
output=$("$run" sh -c 'sleep 1000 & echo started' </dev/null)
is "what the command leaves behind does not hold it up" started "$output"
output=$("$run" sh -c 'seq 1 200000' </dev/null | (sleep 15; sha256sum))
is "a slow reader loses nothing" "$(seq 1 200000 | sha256sum)" "$output"
"$run" sh -c 'head -c 1000000 /dev/zero' </dev/null >/dev/full 2>err
is "a full disk at standard output" "125 machine: write standard output: No space left on device" "$? $(cat err)"

# --- what is inside
"${CC:-gcc}" -O2 -Wall -Werror -static "$here/kvm_guest.c" -o kvm_guest && "$run" "$PWD/kvm_guest" </dev/null
result $? "KVM runs a guest inside"
cat >inside.sh <<'END'
for i in /dev/net/tun /dev/fuse /dev/vhost-net /dev/vhost-vsock; do
	exec 3<>$i || echo "$i"
	exec 3>&-
done
for i in cpu memory pids io cpuset; do grep -qw $i /sys/fs/cgroup/cgroup.subtree_control || echo "controller $i"; done
[ "$(cat /proc/self/cgroup)" = 0::/command ] || echo "cgroup"
[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ] || echo "ip_forward"
[ "$(ulimit -Hn)" = 1048576 ] || echo "nofile"
ping -c 1 127.0.0.1 >/dev/null 2>&1 || busybox ping -c 1 127.0.0.1 >/dev/null || echo "lo"
ip link add br0 type bridge && ip link add v0 type veth peer name v1 && ip link set v0 master br0 || echo "bridge, veth"
tc qdisc add dev v1 clsact && tc filter add dev v1 ingress matchall action mirred egress redirect dev v0 || echo "tc"
modprobe -a nf_nat nft_masq nft_chain_nat xt_MASQUERADE || echo "nat"
for i in docker containerd containers; do
	cd /var/lib/$i && mkdir l u w m && touch l/f && mount -t overlay -o lowerdir=l,upperdir=u,workdir=w overlay m && rm m/f ||
		echo "overlay on $i"
done
cd /scratch && truncate -s 8M image && mkfs.ext4 -q image && mkdir mnt && mount -o loop image mnt || echo "loop"
touch f && setfattr -n user.x -v y f || python3 -c 'import os; os.setxattr("f", "user.x", b"y")' || echo "xattr"
touch /usr/written && rm /etc/passwd || echo "overlay root"
END
output=$("$run" sh ./inside.sh </dev/null 2>&1)
is "devices, cgroups, network, loop, overlay, xattrs" "" "$output"
[ -e /etc/passwd ] && [ ! -e /usr/written ]
result $? "the build machine's files are not changed"
before=$(date +%s) inside=$("$run" date +%s </dev/null) after=$(date +%s)
[ "$before" -le "$inside" ] && [ "$inside" -le "$after" ]
result $? "the clock is right" "$before <= $inside <= $after"

# --- --out
mkdir 'out,with=odd name'
"$run" --out 'out,with=odd name' sh -c 'cd "$0" && echo result >file && chmod 640 file && head -c 3000000 /dev/zero >big' \
	"$PWD/out,with=odd name" </dev/null
is "--out" "0 result 640 3000000" "$? $(cat out*/file) $(stat -c %a out*/file) $(stat -c %s out*/big)"
[ -e 'out,with=odd name/console.log' ]
result $? "--out keeps the console's log"

# --- ends
mark=$work/end
SECONDS=0
output=$("$run" --timeout 15 --out "$mark" sleep 1000 </dev/null 2>&1)
is "time-out: status" 124 $?
is "time-out: message" "machine: timed out after 15 seconds" "$(head -n 1 <<<"$output")"
[ $SECONDS -lt 40 ] && [ "$(machines "$mark")" -eq 0 ]
result $? "time-out: no QEMU left"
output=$("$run" --out "$mark" sh -c 'echo c >/proc/sysrq-trigger' </dev/null 2>&1)
is "a panic: status" 125 $?
grep -q 'it ended before the command did' <<<"$output" && grep -q 'sysrq triggered crash' <<<"$output"
result $? "a panic: message with the console's end" "$output"
for signal in INT TERM KILL; do
	rm -rf "$mark"
	"$run" --out "$mark" sh -c "touch '$mark/started'; sleep 1000" </dev/null 2>/dev/null &
	wait_for_machine "$mark/started"
	is "one QEMU for one machine" 1 "$(machines "$mark")"
	# A background job of this shell ignores SIGINT; supervise catches it all the same.
	kill -$signal $!
	gone_within 5 "$mark"
	result $? "$signal ends QEMU"
	wait $! 2>/dev/null
done
# The cache on a disk that is full.
mkdir small && "$run" --timeout 200 sh -c 'mount -t tmpfs -o size=3m tmpfs "$0" && HULL_CACHE=$0 "$1" true' "$PWD/small" "$run" </dev/null >out 2>err
is "a full cache: status" 125 $?
grep -q '^machine: ' err
result $? "a full cache: message" "$(cat err)"
output=$("$run" --timeout 400 --disk 1 sh -c 'head -c 2G /dev/zero >/scratch/big' </dev/null 2>&1)
[ $? -eq 1 ] && grep -q 'No space left' <<<"$output"
result $? "a full scratch disk" "$output"

# --- two at once, the second with an empty cache and another TMPDIR
mkdir tmp
"$run" sh -c 'sleep 5; echo first' </dev/null >first &
HULL_CACHE=$work/cache TMPDIR=$work/tmp "$run" --cpus 1 --mem 1024 sh -c 'sleep 5; nproc' </dev/null >second &
HULL_CACHE=$work/cache TMPDIR=$work/tmp "$run" --cpus 1 --mem 1024 sh -c 'sleep 5; nproc' </dev/null >third
wait
is "three at once, two of them filling the same cache" "first 1 1" "$(cat first second third | xargs)"
is "nothing left in TMPDIR" "" "$(ls tmp)"
is "nothing half-made left in the cache" "" "$(ls -A cache/machine | grep '^\.new')"

# --- figures that repeat
output=$("$run" --icount /run/machine/busy -n 4 busybox true </dev/null | awk 'NR > 1 { print $1 }' | sort -n)
awk 'NR == 1 { low = $1 } { high = $1 } END { exit !(NR == 3 && low > 100000 && high < 1.5 * low) }' <<<"$output"
result $? "--icount" "$output"

exit $failed

#!/bin/bash
# Bad input: one line that names the cause, within seconds, and nothing left.
. "$(dirname "$0")/lib.sh"

rootfs_busybox "$work/rootfs"
bundle "$work/good" "$work/rootfs" sh -c 'exit 5'
# "Within seconds" is a matter of how long a good container takes on this host; a failure that waits for the time-out takes longer.
began=$SECONDS
"$hull" run -b "$work/good" good </dev/null
same "a good container runs" 5 $?
seconds=$((20 + 8 * (SECONDS - began)))
export HULL_START_TIMEOUT=$((seconds + 60))

# refused DESCRIPTION PATTERN [VARIABLE=VALUE...] FLAG...: `hull run FLAG... bad` fails with 1 and one line that matches the
# extended regular expression. Little else is started here: in the emulated host that is what takes time.
refused() {
	local description=$1 pattern=$2 output status start=$SECONDS environment=()
	shift 2
	while [[ ${1-} == [A-Z]*=* ]]; do
		environment+=("$1")
		shift
	done
	output=$(env "${environment[@]}" "$hull" run "$@" bad </dev/null 2>&1 >/dev/null)
	status=$?
	if [ "$status" = 1 ] && [[ $output != *$'\n'* && $output =~ $pattern ]] && [ $((SECONDS - start)) -le $seconds ] &&
		! compgen -G '/run/hull/*' >/dev/null; then
		ok "$description"
	else
		not_ok "$description" "status $status after $((SECONDS - start)) s: $output
$(leftovers)"
	fi
}
# config DESCRIPTION PATTERN TEXT: with that config.json
config() {
	mkdir -p "$work/bad"
	printf '%s' "$3" >"$work/bad/config.json"
	refused "config.json: $1" "$2" -b "$work/bad"
}
# changed DESCRIPTION PATTERN JQ: with the good one, changed
changed() { config "$1" "$2" "$(jq "$3" "$work/good/config.json")"; }

refused "bundle missing" "bundle.*$work/nosuch.*No such file" -b "$work/nosuch"
mkdir -p "$work/empty"
refused "config.json: missing" "config.json not found" -b "$work/empty"
mkdir -p "$work/folder/config.json"
refused "config.json: a folder" "config.json is not a regular file" -b "$work/folder"
config "empty" "config.json: .*JSON" ""
config "truncated" "config.json: .*line" "$(head -c 500 "$work/good/config.json")"
config "not an object" "config.json: " "[1, 2]"
config "binary" "config.json: " "$(head -c 300 /bin/ls | tr -d '\0')"
head -c 30000000 /dev/zero | tr '\0' ' ' >"$work/bad/config.json"
refused "config.json: 30 MB" "config.json: larger than" -b "$work/bad"
config "deeply nested" "config.json: .*nested" "$(head -c 100000 /dev/zero | tr '\0' '[')"
changed "version 2" 'ociVersion .*2[.]0[.]0.* is not supported' '.ociVersion="2.0.0"'
changed "version is a number" "ociVersion must be a string" '.ociVersion=1'
changed "no version" "ociVersion must be there" 'del(.ociVersion)'
changed "no process" "process must be there" 'del(.process)'
changed "args is a string" "process.args must be an array" '.process.args="sh"'
changed "args holds a number" 'process.args\[1\] must be a string' '.process.args=["sh", 5]'
changed "args is empty" "process.args" '.process.args=[]'
changed "uid is negative" "process.user.uid must be" '.process.user.uid=-1'
changed "uid is too large" "process.user.uid must be" '.process.user.uid=99999999999'
changed "a terminal that nobody can have" "/dev/tty" '.process.terminal=true'
changed "mounts is an object" "mounts must be an array" '.mounts={}'
changed "a mount without destination" 'mounts\[0\].destination' '.mounts=[{"type":"tmpfs"}]'
changed "hook" "hooks.prestart.0..path must be an absolute path" '.hooks={"prestart":[{"path":"bin/true"}]}'
changed "seccomp" "string SCMP_ACT_NONE is not a valid action for seccomp" '.linux.seccomp={"defaultAction":"SCMP_ACT_NONE"}'
changed "rootfs missing" "invalid rootfs.*$work/nosuch.*No such file" ".root.path=\"$work/nosuch\""
changed "rootfs is a file that is no image" "mount the disk of the root file system as ext4: " ".root.path=\"$work/rootfs/etc/passwd\""
changed "rootfs is empty" "root.path" '.root.path=""'
changed "bind source missing" 'mounts\[0\].source.*nosuch.*No such file' '.mounts=[{"destination":"/x","type":"bind","source":"/nosuch"}]'
changed "bind source is a device" 'mounts\[0\].source.*character device' '.mounts=[{"destination":"/x","type":"bind","source":"/dev/null"}]'
mkfifo "$work/fifo"
changed "bind source is a fifo" 'mounts\[0\].source.*fifo' ".mounts=[{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"$work/fifo\"}]"
changed "memory that is no size" "hull.memory" '.annotations={"hull.memory":"much"}'
changed "too little memory" "hull.memory" '.annotations={"hull.memory":"1M"}'
changed "no CPUs" "hull.vcpus" '.annotations={"hull.vcpus":"0"}'
changed "more memory than the host has" "memory" '.annotations={"hull.memory":"1T"}'

# --- flags -----------------------------------------------------------------------------------------------------------
refused "an unknown flag" "flag provided but not defined: -nosuch" --nosuch
refused "a flag without its value" "requires exactly 1" --bundle
refused "--preserve-fds with a folder" "preserve-fds: descriptor 3 is a directory" -b "$work/good" --preserve-fds 1 3</etc
refused "--preserve-fds with nothing" "unable to stat preserved-fd 0" -b "$work/good" --preserve-fds 1 3<&-
refused "--preserve-fds with too many" "no more than 32 descriptors" -b "$work/good" --preserve-fds 33
refused "--console-socket without a terminal" "console socket" -b "$work/good" --console-socket /tmp/x
refused "--pid-file in a folder that is not there" "pid-file.*No such file" -b "$work/good" --pid-file /no/such/pid
refused "a bad time-out" "HULL_START_TIMEOUT" HULL_START_TIMEOUT=soon -b "$work/good"
for id in a/b .. 'a b' "$(printf 'x%.0s' {1..1025})"; do
	output=$("$hull" run -b "$work/good" "$id" 2>&1)
	same "id ${id:0:10}" "1 1" "$? $(grep -c 'invalid container ID format' <<<"$output")"
done

# --- the host --------------------------------------------------------------------------------------------------------
head -c 3000000 /dev/urandom >"$work/noise"
refused "kernel: noise" "kernel" HULL_KERNEL="$work/noise" -b "$work/good"
head -c 1000000 "$repository/build/share/hull/vmlinux" >"$work/half"
refused "kernel: truncated" "kernel" HULL_KERNEL="$work/half" -b "$work/good"
refused "kernel: missing" "kernel.*No such file" HULL_KERNEL=/nosuch -b "$work/good"
refused "kernel: empty" "kernel" HULL_KERNEL=/dev/null -b "$work/good"
refused "initramfs: noise" "panicked|did not answer|virtual machine" HULL_INITRAMFS="$work/noise" -b "$work/good"
refused "initramfs: missing" "initramfs.*No such file" HULL_INITRAMFS=/nosuch -b "$work/good"
refused "hull-vmm missing" "start .*nosuch.*No such file" HULL_VMM=/nosuch -b "$work/good"
refused "hull-vmm is another program" "hull-vmm ended" HULL_VMM=/bin/true -b "$work/good"
printf "#!/bin/busybox sh\nexec sleep 100\n" >"$work/sleeper"
chmod +x "$work/sleeper"
refused "hull-fsd dies" "file server" HULL_FSD=/bin/false -b "$work/good"
refused "a VMM that never answers" "did not answer within 3 s" HULL_START_TIMEOUT=3 HULL_VMM="$work/sleeper" -b "$work/good"
mv /dev/kvm /dev/kvm.away
refused "no /dev/kvm" "/dev/kvm does not exist.*doctor" -b "$work/good"
"$hull" doctor >"$work/doctor" 2>&1
same "doctor without /dev/kvm: exit status" 1 $?
check "doctor without /dev/kvm names it" grep -q '^FAIL.*/dev/kvm' "$work/doctor"
: >/dev/kvm
refused "/dev/kvm is a file" "/dev/kvm is not KVM" -b "$work/good"
rm /dev/kvm
mv /dev/kvm.away /dev/kvm
chmod 600 /dev/kvm
mkdir -m 777 "$work/runtime"
chmod 755 "$work" "$work/rootfs"
output=$(XDG_RUNTIME_DIR=$work/runtime setpriv --reuid 1234 --regid 1234 --clear-groups "$hull" run -b "$work/good" bad 2>&1 </dev/null)
same "no permission for /dev/kvm" "1 1 1" "$? $(wc -l <<<"$output") $(grep -c '/dev/kvm: permission denied' <<<"$output")"
same "no permission: nothing left" "" "$(leftovers; ls -A "$work/runtime")"
mkdir -p "$work/full"
mount -t tmpfs -o size=4k,nr_inodes=3 tmpfs "$work/full"
output=$("$hull" --root "$work/full/root" run -b "$work/good" bad 2>&1 </dev/null)
same "a full disk under --root" "1 1 1" "$? $(wc -l <<<"$output") $(grep -c 'No space left' <<<"$output")"
same "a full disk: nothing left" "" "$(ls -A "$work/full/root" 2>/dev/null)"
umount "$work/full"
"$hull" doctor >"$work/doctor" 2>&1
same "doctor on a good host: exit status" 0 $?
[ $? = 0 ] && grep -q '^ok.*a guest came up' "$work/doctor" && ok "doctor has booted a guest" || not_ok "doctor has booted a guest" "$(cat "$work/doctor")"
"$hull" run -b "$work/good" after </dev/null
same "after all that, a good container runs" 5 $?
same "nothing is left" "" "$(leftovers)"

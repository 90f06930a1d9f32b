#!/bin/bash
# Some thousand file operations give inside hull what they give inside runc on the same file system: result, errno, and
# what the file looks like afterwards. Also what they give through the file server without a virtual machine.
. "$(dirname "$0")/lib.sh"
fsops=$repository/build/tests/fsops
capabilities='.process.capabilities |= map_values(["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FSETID","CAP_FOWNER","CAP_MKNOD","CAP_SETGID","CAP_SETUID","CAP_SETFCAP","CAP_SYS_CHROOT","CAP_KILL"])
	| .process.rlimits = [{"type":"RLIMIT_NOFILE","hard":4096,"soft":4096}]'

compare() { # DESCRIPTION EXPECTED-FILE ACTUAL-FILE
	same "$1: as many operations as there are" "$(tail -n 1 "$2")" "$(tail -n 1 "$3")"
	same "$1: same results" "" "$(diff "$2" "$3")"
}

both() { # RUNTIME NAME: runs fsops in the root file system (ext4) and in a volume (tmpfs)
	local runtime=$1 name=$2
	bundle "$work/$name" "$work/rootfs" sh -c '/fsops /tree; /fsops /volume/tree'
	edit "$work/$name" "$capabilities | .mounts += [{\"destination\":\"/volume\",\"type\":\"bind\",\"source\":\"$work/volume\",\"options\":[\"rbind\",\"rw\"]}]"
	(cd "$work/$name" && $runtime run "fsops-$name" </dev/null >"$work/$name.out" 2>&1)
	# The next one begins anew.
	rm -rf "$work/rootfs/tree" "$work/volume/tree"
}

rootfs_busybox "$work/rootfs"
cp "$fsops" "$work/rootfs/fsops"
mkdir -p "$work/volume"
mount -t tmpfs tmpfs "$work/volume"
both runc runc
both "$hull" hull
check "enough operations ran" test "$(wc -l <"$work/runc.out")" -ge 2000
echo "# $(wc -l <"$work/hull.out") operations in each"
compare "inside hull and inside runc" "$work/runc.out" "$work/hull.out"
umount "$work/volume"

# The file server alone, mounted by the host's own kernel.
mkdir "$work/bridge" "$work/direct" "$work/fixed"
echo content >"$work/fixed/file"
"$repository/build/tests/fuse_bridge" "$(dirname "$hull")/hull-fsd" "$work/bridge" \
	"tree=$work/direct" "fixed,ro=$work/fixed" "single=$work/fixed/file" >"$work/bridge.log" 2>&1 &
bridge=$!
wait_for grep -qs mounted "$work/bridge.log"
limited() { setpriv --bounding-set -all,+chown,+dac_override,+fsetid,+fowner,+mknod,+setgid,+setuid,+setfcap,+sys_chroot --inh-caps -all "$@"; }
limited "$fsops" "$work/direct/native" >"$work/native.out" 2>&1
limited "$fsops" "$work/bridge/tree/served" >"$work/served.out" 2>&1
compare "through the file server alone" "$work/native.out" "$work/served.out"
same "what it exports" "fixed single tree" "$(ls "$work/bridge" | tr '\n' ' ' | sed 's/ $//')"
same "a single file as an export" content "$(cat "$work/bridge/single")"
same "a read-only export" "Read-only file system" "$(touch "$work/bridge/fixed/new" 2>&1 | sed 's/.*: //')"
same "nothing is made beside the exports" "Read-only file system" "$(mkdir "$work/bridge/new" 2>&1 | sed 's/.*: //')"

# Its jail, from outside.
server=$(pgrep -P $bridge -x hull-fsd)
status() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$server/status"; }
# chown dac_override fowner fsetid setgid setuid mknod setfcap
same "the file server's capabilities" "00000000880000db 00000000880000db 0000000000000000 0000000000000000 0000000000000000" \
	"$(status CapPrm) $(status CapEff) $(status CapInh) $(status CapBnd) $(status CapAmb)"
same "no new privileges, and a filter" "1 2" "$(status NoNewPrivs) $(status Seccomp)"
same "an empty root" "" "$(ls -A "/proc/$server/root/")"
same "one mount, the empty root" "none / tmpfs ro" "$(sed -E 's/^(none \/ tmpfs ro).*/\1/' "/proc/$server/mounts")"
# Of a network or IPC namespace it has no use: the filter has no call for either.
for namespace in mnt uts cgroup; do
	check "its own $namespace namespace" test "$(readlink "/proc/$server/ns/$namespace")" != "$(readlink "/proc/self/ns/$namespace")"
done
umount "$work/bridge"
wait $bridge
check "it ends with its client" wait_for has_ended "$server"
exec 9</proc
same "procfs is not exported" "hull-fsd: export \`p\`: on procfs, which is not exported" \
	"$("$(dirname "$hull")/hull-fsd" --socket 9 --log 1 --export p=9 2>&1)"
exec 9<&-
same "nothing is left" "" "$(leftovers)"

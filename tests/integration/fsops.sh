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
compare "inside hull and inside runc" "$work/runc.out" "$work/hull.out"
umount "$work/volume"

# The file server alone, mounted by the host's own kernel.
mkdir "$work/bridge" "$work/direct"
"$repository/build/tests/fuse_bridge" "$(dirname "$hull")/hull-fsd" "$work/bridge" "tree=$work/direct" >"$work/bridge.log" 2>&1 &
bridge=$!
for _ in $(seq 50); do
	grep -qs mounted "$work/bridge.log" && break
	sleep 0.1
done
limited() { setpriv --bounding-set -all,+chown,+dac_override,+fsetid,+fowner,+mknod,+setgid,+setuid,+setfcap,+sys_chroot --inh-caps -all "$@"; }
limited "$fsops" "$work/direct/native" >"$work/native.out" 2>&1
limited "$fsops" "$work/bridge/tree/served" >"$work/served.out" 2>&1
compare "through the file server alone" "$work/native.out" "$work/served.out"
umount "$work/bridge"
wait $bridge
same "nothing is left" "" "$(leftovers)"

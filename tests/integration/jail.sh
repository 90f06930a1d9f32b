#!/bin/bash
# What is left to somebody who takes over the VMM or the file server, looked at from outside while a container runs.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
bundle "$work/b" "$work/rootfs" sleep 1000
edit "$work/b" '.process.args=["sleep","1000"]'
"$hull" run --detach --pid-file "$work/pid" --bundle "$work/b" jailed </dev/null >/dev/null 2>&1
vmm=$(cat "$work/pid")
fsd=$(pgrep -x hull-fsd | head -n 1)
same "the pid file names the VMM" hull-vmm "$(cat "/proc/$vmm/comm")"

threads=$(ls "/proc/$vmm/task")
check "the VMM has a loop and a vCPU thread at least" test "$(wc -w <<<"$threads")" -ge 2
field() { sed -n "s/^$2:[[:space:]]*//p" "$1"; }
for thread in $threads; do
	status=/proc/$vmm/task/$thread/status
	for set in CapEff CapPrm CapInh CapBnd CapAmb; do
		same "thread $(field "$status" Name): $set" 0000000000000000 "$(field "$status" $set)"
	done
	same "thread: NoNewPrivs" 1 "$(field "$status" NoNewPrivs)"
	same "thread: Seccomp" 2 "$(field "$status" Seccomp)"
	for id in $(field "$status" Uid) $(field "$status" Gid); do
		[ "$id" -ge 1879048192 ] || not_ok "thread: uid and gid are its own" "$id"
	done
	same "thread: no supplementary groups" "" "$(field "$status" Groups | tr -d ' ')"
done
same "the VMM's root is empty" "" "$(ls -A "/proc/$vmm/root/")"
same "the VMM's mounts: one, of nothing" "1" "$(wc -l <"/proc/$vmm/mounts")"
same "core files are off" "0 0" "$(awk '/core file size/ {print $5, $6}' "/proc/$vmm/limits")"
for namespace in mnt net ipc uts cgroup; do
	[ "$(readlink "/proc/$vmm/ns/$namespace")" != "$(readlink "/proc/self/ns/$namespace")" ] &&
		ok "the VMM has its own $namespace namespace" || not_ok "the VMM has its own $namespace namespace"
done

# Descriptors of the VMM: no directory, and no path but what was handed over.
strange=$(for fd in "/proc/$vmm/fd"/*; do
	target=$(readlink "$fd") || continue
	case $target in
	/dev/null | /dev/kvm | socket:* | pipe:* | anon_inode:* | */vmlinux | */initramfs | */run/hull/jailed/* | /memfd:*) ;;
	*)
		# A file that the container has open; its name is that in the tree, whose mount is attached nowhere.
		[ "$(stat -Lc %d:%i "$fd")" = "$(stat -c %d:%i "$work/rootfs/$target" 2>/dev/null)" ] && continue
		[ -d "$fd/" ] && echo "directory $target" || echo "$target"
		;;
	esac
done)
same "the VMM's descriptors" "" "$strange"

status=/proc/$fsd/status
same "file server: NoNewPrivs" 1 "$(field "$status" NoNewPrivs)"
same "file server: Seccomp" 2 "$(field "$status" Seccomp)"
# CAP_SYS_ADMIN is bit 21, CAP_SYS_PTRACE 19, CAP_SYS_MODULE 16, CAP_SYS_RAWIO 17, CAP_NET_ADMIN 12, CAP_SYS_CHROOT 18
mask=$(((1 << 21) | (1 << 19) | (1 << 16) | (1 << 17) | (1 << 12) | (1 << 18)))
same "file server: no capability beyond ownership" 0 $((0x$(field "$status" CapEff) & mask))
# Of a network or IPC namespace it has no use: the filter has no call for either.
for namespace in mnt uts cgroup; do
	[ "$(readlink "/proc/$fsd/ns/$namespace")" != "$(readlink "/proc/self/ns/$namespace")" ] &&
		ok "the file server has its own $namespace namespace" || not_ok "the file server has its own $namespace namespace"
done
same "the file server sees only the exported trees" "" "$(ls -A "/proc/$fsd/root/" | grep -vE '^(rootfs|m[0-9]+)$')"

"$hull" kill jailed KILL
wait_for has_ended "$vmm"
"$hull" delete jailed
same "nothing is left" "" "$(leftovers)"

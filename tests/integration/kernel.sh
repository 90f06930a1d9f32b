#!/bin/bash
# The guest's kernel and initramfs: what containers find in it, and what it must not have.
. "$(dirname "$0")/lib.sh"

rootfs_busybox "$work/rootfs"
bundle "$work/bundle" "$work/rootfs" /bin/sh /test.sh
edit "$work/bundle" '.process.noNewPrivileges = false | .process.capabilities |= map_values(["CAP_SYS_ADMIN", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP", "CAP_DAC_OVERRIDE", "CAP_MKNOD", "CAP_SYS_CHROOT"])
	| .annotations = {"hull.vcpus": "2"}'

# The guest's side prints results in the same form as this test.
cat >"$work/rootfs/test.sh" <<'END'
check() {
	local description=$1
	shift
	if "$@" >/tmp/output 2>&1; then echo "ok $description"; else echo "not ok $description"; sed 's/^/#   /' /tmp/output; fi
}
all_in() { # all_in FILE WORD...
	local file=$1 word missing=
	shift
	for word in "$@"; do grep -qw -- "$word" "$file" || missing="$missing $word"; done
	[ -z "$missing" ] || { echo "missing:$missing"; return 1; }
}
option() { zcat /proc/config.gz | grep -qx "$1"; }
refused() { ! "$@"; }

check 'it is the guest kernel' grep -q -- '-hull ' /proc/version
check 'two vCPUs are used' test "$(grep -c ^processor /proc/cpuinfo)" = 2
check 'kvmclock is the clock' grep -q kvm-clock /sys/devices/system/clocksource/clocksource0/current_clocksource
check 'all control group controllers' all_in /sys/fs/cgroup/cgroup.controllers cpuset cpu io memory hugetlb pids rdma misc
check 'file systems' all_in /proc/filesystems proc sysfs tmpfs devpts mqueue cgroup2 ext4 erofs overlay virtiofs fuse hugetlbfs binfmt_misc bpf
check 'all namespaces' sh -c 'cd /proc/self/ns && ls -d cgroup ipc mnt net pid time user uts'
check 'a user namespace in the container' unshare -U -r true
check 'pressure figures' all_in /proc/pressure/memory some full
mkdir -p /tmp/disk/lower /tmp/merged
check 'tmpfs' mount -t tmpfs none /tmp/disk
mkdir -p /tmp/disk/lower /tmp/disk/upper /tmp/disk/work
echo one >/tmp/disk/lower/file
check 'overlay' mount -t overlay none -o lowerdir=/tmp/disk/lower,upperdir=/tmp/disk/upper,workdir=/tmp/disk/work /tmp/merged
echo two >/tmp/merged/file
check 'overlay copies up' grep -qx one /tmp/disk/lower/file
check 'only lo is there by itself' sh -c '[ "$(ls /sys/class/net)" = lo ]'
check 'network interfaces' sh -c 'for type in bridge dummy; do ip link add $type-x type $type || exit 1; done; ip link add veth-x type veth peer name veth-y'
check 'random numbers at once' sh -c 'head -c 32 /dev/random | wc -c | grep -qx 32'
check 'system call filters' grep -q '^Seccomp_filters:' /proc/self/status
check '32-bit programs' option CONFIG_IA32_EMULATION=y
check 'no modules' refused option CONFIG_MODULES=y
check 'no way to memory' refused test -e /dev/mem
END
"$hull" run --bundle "$work/bundle" "kernel$$" </dev/null >"$work/output" 2>&1
status=$?
grep -E '^(ok|not ok|#)' "$work/output"
same "the checks ran to their end" "0 no way to memory" "$status $(sed -n '$s/^ok //p' "$work/output")"

# The archive that the agent comes in.
mkinitramfs=$repository/build/bin/mkinitramfs
agent=$repository/build/bin/hull-agent
"$mkinitramfs" "$agent" "$work/one" && "$mkinitramfs" "$agent" "$work/two"
check "the initramfs is the same each time" cmp "$work/one" "$work/two"
same "it ends on a page boundary" 0 "$(($(stat -c %s "$work/one") % 4096))"
same "it holds what the agent needs" "dev dev/console dev/null init proc run sys tmp" "$(cpio --quiet -it <"$work/one" | paste -sd ' ')"
same "a file that is no program is refused" "mkinitramfs: /etc/passwd: not an ELF program" "$("$mkinitramfs" /etc/passwd "$work/three" 2>&1)"
check "and nothing is left of it" test ! -e "$work/three"

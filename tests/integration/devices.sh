#!/bin/bash
# The VMM's devices with a real guest kernel and nothing else: vsock streams, disks, the entropy source.
. "$(dirname "$0")/lib.sh"
build=$repository/build
vmm=${HULL_VMM:-$build/bin/hull-vmm}
kernel=${HULL_KERNEL:-$build/share/hull/vmlinux}
"$build/bin/mkinitramfs" "$build/tests/devices_guest" "$work/initramfs"

guest() { # TEST [DISK]
	"$build/tests/devices_host" "$vmm" "$kernel" "$work/initramfs" "$@"
}

head -c 16777216 /dev/urandom >"$work/data"
expected=$(cksum <"$work/data")
actual=$(cat "$work/data" | guest cat 2>"$work/result" | cksum)
same "16 MiB through blocking pipes" "$expected" "$actual"
same "the status of the guest" "exited 42" "$(cat "$work/result")"
actual=$(cat "$work/data" | NONBLOCKING=1 guest cat 2>/dev/null | cksum)
same "16 MiB through pipes that do not block" "$expected" "$actual"
guest cat <"$work/data" >"$work/copy" 2>/dev/null
check "16 MiB from file to file" cmp "$work/data" "$work/copy"

guest ports </dev/null >/dev/null 2>"$work/result"
same "the guest reaches registered ports alone, each once" "exited 0" "$(cat "$work/result")"
guest reader-gone </dev/null 2>"$work/result" | head -c 100000 >/dev/null
same "a writer learns that its reader has gone" "exited 32" "$(cat "$work/result")"
same "a late reader gets everything" 200000 "$(guest status-7 </dev/null 2>/dev/null | (sleep 8; wc -c))"
# Of a process that a signal ended, the rest of the output is given up after 2 s without a reader.
mkfifo "$work/fifo"
exec {reader}<>"$work/fifo"
check "a reader that stands still does not hold a killed process" \
	timeout 240 sh -c "'$build/tests/devices_host' '$vmm' '$kernel' '$work/initramfs' status-137 </dev/null >'$work/fifo' 2>'$work/result'; test \$? = 137"
exec {reader}>&-

truncate -s 32M "$work/disk"
chmod 666 "$work/disk"
guest disk "$work/disk" </dev/null >/dev/null 2>"$work/result"
same "a disk is written, flushed, read, discarded, zeroed" "exited 0" "$(cat "$work/result")"
guest readonly-disk "$work/disk,readonly" </dev/null >/dev/null 2>"$work/result"
same "a read-only disk with a serial number" "exited 0" "$(cat "$work/result")"
guest random </dev/null >/dev/null 2>"$work/result"
same "random bytes from the host" "exited 0" "$(cat "$work/result")"

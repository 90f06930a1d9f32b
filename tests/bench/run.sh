#!/bin/bash
# make bench: what starting a container costs, and what an idle one holds, with hull, runc, crun, and with the same guest
# kernel under QEMU's microvm. Run in the emulated KVM host, all programs in the same boot: once as it is, for wall time, once
# counting instructions, which repeats (tests/machine/README.md).
#
#   BENCH_RUNS   runs of each program (10)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
build=$(cd "$repository" && realpath "${BUILD:-build}")
runs=${BENCH_RUNS:-10}
work=$build/bench
rm -rf "$work"
mkdir -p "$work/out/wall" "$work/out/icount" "$work/initramfs/bin"

# The guest of microvm: the same kernel; its init and the same /bin/true.
"${CC:-gcc}" -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -static "$here/init.c" -o "$work/initramfs/init"
strip "$work/initramfs/init"
mkdir -p "$work/initramfs"/{dev,proc,sys}
cp /bin/busybox "$work/initramfs/bin/busybox"
ln -s busybox "$work/initramfs/bin/true"
(cd "$work/initramfs" && find . | cpio --quiet -o -H newc -R 0:0 >"$work/initramfs.cpio")

measure() { # measure MODE [OPTION...]
	local mode=$1
	shift
	"$repository/tests/machine/run" --timeout 1800 "$@" --out "$work/out/$mode" -- \
		"$here/inside.sh" "$mode" "$build" "$work/out/$mode" "$runs" </dev/null
}
echo "bench: wall time and memory, $runs runs of each"
measure wall
echo "bench: instructions, $runs runs of each"
measure icount --icount

median() { # median FILE COLUMN DIVISOR: of the runs that ended well
	awk -v column="$2" -v divisor="$3" '$3 == 0 { print $column / divisor }' "$1" 2>/dev/null | sort -g |
		awk '{ value[NR] = $1 } END { if (NR) printf "%.1f", NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2; else printf "failed" }'
}

mebibytes() { # mebibytes FILE
	[ -s "$work/out/wall/$1" ] && awk '{ printf "%.1f", $1 / 1024 }' "$work/out/wall/$1" || printf -
}

row() { # row TITLE NAME
	printf '%-28s %10s %22s %18s %18s\n' "$1" "$(median "$work/out/wall/$2" 2 1000000)" \
		"$(median "$work/out/icount/$2" 1 1000000)" "$(mebibytes "$2.memory")" "$(mebibytes "$2.available")"
}

{
	echo
	echo "Figures of the emulated KVM host (QEMU TCG): rows of this table can be compared with each other, and with nothing else."
	printf '%-28s %10s %22s %18s %18s\n' "run of /bin/true" "wall, ms" "million instructions" "idle: PSS, MiB" "of 20: each, MiB"
	row "hull run, forked" hull
	row "hull run, booted" hull-cold
	row "runc run" runc
	row "crun run" crun
	row "QEMU microvm, same kernel" microvm
	row "hull exec" hull-exec
	row "runc exec" runc-exec
	row "crun exec" crun-exec
	echo "Medians of $runs runs. PSS: of all host processes of one container that sleeps; QEMU: of a guest whose init sleeps."
	echo "Of 20: by how much less memory is available on the host for each of twenty that sleep."
} | tee "$work/table.txt"
! grep -q failed "$work/table.txt"

#!/bin/bash
# Part of make bench: file work in the root file system and on a bind mount, in hull, in runc, and in QEMU with Debian's
# virtiofsd and the same guest kernel, all in one boot of the emulated KVM host: once for wall time, once counting
# instructions.
#
#   files.sh [CASE...]     tar stat git sqlite read write randread randwrite
#   BENCH_FILES_RUNS       runs of each for wall time (3); instructions repeat: one run
#   BENCH_MODES            "wall icount"
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
build=$(cd "$repository" && realpath "${BUILD:-build}")
work=$build/bench
cases=("$@")
[ $# -gt 0 ] || cases=(tar stat git sqlite read write randread randwrite)
modes=${BENCH_MODES:-wall icount}

# --- the guest's root file system: programs of this machine with their libraries ---
programs=(bash tar find xargs stat git sqlite3 fio mkdir rm)
add_program() { # ROOT PROGRAM
	local path file
	path=$(command -v "$2")
	for file in "$path" $(ldd "$path" | grep -o '/[^ ]*'); do
		[ -e "$1$file" ] && continue
		mkdir -p "$1$(dirname "$file")"
		cp -L "$file" "$1$file"
	done
}

make_rootfs() {
	local root=$work/files-rootfs program
	rm -rf "$root"
	mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/usr/lib64" "$root/etc"
	for program in bin lib lib64; do ln -s "usr/$program" "$root/$program"; done
	for program in "${programs[@]}"; do add_program "$root" "$program"; done
	ln -s bash "$root/usr/bin/sh"
	echo 'root:x:0:0:root:/:/bin/bash' >"$root/etc/passwd"
	printf '[safe]\n\tdirectory = *\n' >"$root/etc/gitconfig"
	tar -C "$root" -cf "$work/files-rootfs.tar" .
	rm -rf "$root"
}

# --- the trees: the same at each call ---
make_files() { # DIRECTORY COUNT
	local i directory text
	text=$(seq 1 4000)
	for ((i = 0; i < $2; i++)); do
		directory=$1/part$((i / 200))/directory$((i / 20 % 10))
		[ -d "$directory" ] || mkdir -p "$directory"
		printf '%s' "$i ${text:0:$((i * 7919 % 12000))}" >"$directory/file$i.c"
	done
}

make_data() {
	local data=$work/files-data
	rm -rf "$data"
	mkdir -p "$data"
	make_files "$data/tree" 600
	make_files "$data/repository" 500
	(
		cd "$data/repository"
		export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1
		git init -q
		git add .
		git -c user.name=bench -c user.email=bench@localhost commit -qm all
	)
	make_files "$data/packed" 300
	tar -C "$data/packed" -cf "$data/tree.tar" .
	rm -rf "$data/packed"
	head -c 16M /dev/zero | tr '\0' x >"$data/big"
	tar -C "$data" -cf "$work/files-data.tar" .
	rm -rf "$data"
}

make_initramfs() {
	local root=$work/files-initramfs
	rm -rf "$root"
	mkdir -p "$root"/{mnt,dev,proc,sys}
	"${CC:-gcc}" -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -static "$here/files_init.c" -o "$root/init"
	strip "$root/init"
	(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0 >"$work/files-initramfs.cpio")
	rm -rf "$root"
}

mkdir -p "$work"
make_rootfs
make_data
make_initramfs
for mode in $modes; do
	out=$work/out/files-$mode
	rm -rf "$out"
	mkdir -p "$out"
	echo "bench: file work, ${cases[*]}: $mode"
	options=(--timeout 3600)
	runs=${BENCH_FILES_RUNS:-3}
	[ "$mode" = wall ] || options+=(--icount) runs=1
	"$repository/tests/machine/run" "${options[@]}" --out "$out" -- \
		"$here/files_inside.sh" "$build" "$out" "$runs" "${cases[@]}" </dev/null
done

# Wall: medians of what the case took. Instructions: all of a run less all of a run that did nothing.
table() { # RESULTS COLUMN
	awk -v column="$2" -v cases="${cases[*]}" '
		function median(key, n, i, j, t) {
			n = count[key]
			if (!n) return 0
			for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++)
				if (value[key, i] > value[key, j]) { t = value[key, i]; value[key, i] = value[key, j]; value[key, j] = t }
			return (value[key, int((n + 1) / 2)] + value[key, int(n / 2) + 1]) / 2
		}
		function cost(system, place, name, result) {
			result = median(system " " place " " name)
			if (column == 5 && result) result -= median(system " " place " nothing")
			return result / 1e6
		}
		function ratio(other, own) { return own > 0 && other > 0 ? sprintf("%.2f", other / own) : "failed" }
		{ key = $1 " " $2 " " $3; value[key, ++count[key]] = $column }
		END {
			printf "%-10s %10s %10s %10s %10s %10s | %10s %10s %10s\n", "", "runc", "hull", "runc bind", "hull bind", "virtiofsd",
				"of runc", "bind", "virtiofsd"
			n = split(cases, names, " ")
			for (i = 1; i <= n; i++) {
				name = names[i]
				r = cost("runc", "rootfs", name); h = cost("hull", "rootfs", name)
				rb = cost("runc", "bind", name); hb = cost("hull", "bind", name); v = cost("virtiofsd", "rootfs", name)
				printf "%-10s %10.1f %10.1f %10.1f %10.1f %10.1f | %10s %10s %10s\n", name, r, h, rb, hb, v,
					ratio(r, h), ratio(rb, hb), ratio(v, h)
			}
		}' "$1"
}

{
	echo
	echo "Figures of the emulated KVM host: they can be compared with each other in one table, and with nothing else."
	echo "The last three columns: how many times as fast as the other hull is (root file system, bind mount, root file system)."
	for mode in $modes; do
		[ "$mode" = wall ] && echo "file work, wall time, ms" || echo "file work, million instructions of the whole host"
		table "$work/out/files-$mode/results" "$([ "$mode" = wall ] && echo 4 || echo 5)"
	done
} | tee "$work/files.txt"
! grep -q failed "$work/files.txt"

#!/bin/bash
# Inside the emulated host: file work in hull, in runc, and in QEMU with virtiofsd, on the same trees. Writes a line for each
# run to OUT/results: SYSTEM PLACE CASE NANOSECONDS BUSY, the first as the case itself measured it, the second as
# /run/machine/busy does for all of it, the start included (the case "nothing" is the start alone).
#
#   files_inside.sh BUILD OUT RUNS CASE...
set -u
build=$1 out=$2 runs=$3
shift 3
base=/scratch/files
here=$(cd "$(dirname "$0")" && pwd)
runtime=$(cd "$here/../../runtime" && pwd)

cp -r "$build/bin" "$build/share" "$build/bench/files-initramfs.cpio" /scratch/
hull=/scratch/bin/hull
mkdir -p "$base/rootfs"/{proc,sys,dev,tmp,work,volume,etc} "$base/volume"
tar -xf "$build/bench/files-rootfs.tar" -C "$base/rootfs"
for place in "$base/rootfs/work" "$base/volume"; do
	tar -xf "$build/bench/files-data.tar" -C "$place"
	# What git remembers of the files has to be true here.
	HOME=/ git -C "$place/repository" status >/dev/null
done
cp "$here/files_guest.sh" "$base/rootfs/"
# A second later what git has seen is no longer too young to be believed.
sleep 2
for place in "$base/rootfs/work" "$base/volume"; do HOME=/ git -C "$place/repository" status >/dev/null; done
sync

memory=$(sed -n 's/^#define VM_MEMORY_DEFAULT (\([0-9]*\)ull << 20)$/\1/p' "$runtime/vm_size.h")
command_line=$(printf '#include "%s"\nKERNEL_CMDLINE\n' "$runtime/kernel_cmdline.h" | cpp -P | tail -n 1 | sed 's/" *"//g; s/^"//; s/"$//')

directory_of() { [ "$1" = rootfs ] && echo /work || echo /volume; }
result=$base/volume/result

bundle() { # bundle CASE PLACE: makes the bundle that both runtimes get
	mkdir -p "$base/bundle"
	[ -f "$base/spec.json" ] || (cd "$base" && runc spec && mv config.json spec.json)
	jq --arg case "$1" --arg directory "$(directory_of "$2")" --arg rootfs "$base/rootfs" --arg volume "$base/volume" '
		.process.terminal = false | .root.path = $rootfs | .root.readonly = false
		| .process.args = ["bash", "/files_guest.sh", $case, $directory, "/volume/result"]
		| .process.rlimits = []
		| .mounts += [{destination: "/volume", type: "bind", source: $volume, options: ["rbind", "rw"]}]' \
		"$base/spec.json" >"$base/bundle/config.json"
}

run_hull() { "$hull" run --bundle "$base/bundle" files </dev/null; }
run_runc() { runc run --bundle "$base/bundle" files </dev/null; }

# The volume is the only tree here: virtiofsd serves one directory, and a bind mount on the host joins the two.
run_virtiofsd() { # CASE PLACE
	local socket=/scratch/files/socket server
	mountpoint -q "$base/rootfs/volume" || mount --bind "$base/volume" "$base/rootfs/volume"
	rm -f "$socket"
	# shellcheck disable=SC2086
	/usr/lib/qemu/virtiofsd "--socket-path=$socket" -o "source=$base/rootfs" ${VIRTIOFSD_OPTIONS:-} >&2 &
	server=$!
	while [ ! -S "$socket" ]; do
		kill -0 "$server" || return
		sleep 0.01
	done
	# Not microvm itself: its PCI bus is only found by ACPI, which the kernel has not.
	qemu-system-x86_64 -M q35,accel=kvm,pit=off,pic=off,usb=off,sata=off,smbus=off,memory-backend=memory -cpu host -m "$memory" \
		-object "memory-backend-memfd,id=memory,size=${memory}M,share=on" -nodefaults -no-user-config -display none -no-reboot \
		-chardev "socket,id=fs,path=$socket" -device vhost-user-fs-pci,chardev=fs,tag=bench,queue-size=1024 \
		-kernel /scratch/share/hull/vmlinux -initrd /scratch/files-initramfs.cpio \
		-append "$command_line -- $1 $(directory_of "$2") /volume/result" </dev/null
	wait "$server"
}

clean() {
	rm -rf "$base"/{rootfs/work,volume}/{out,bench.db,bench.db-journal}
	umount "$base/rootfs/volume" 2>/dev/null
	rm -f "$result"
	sync
}

# All of its parts live in this shell, so that one reading before and one after take everything in.
measure() { # SYSTEM PLACE CASE
	local before after
	clean
	[ "$1" = virtiofsd ] || bundle "$3" "$2"
	sleep 0.2
	before=$(/run/machine/busy)
	"run_$1" "$3" "$2" >"$out/$1-$2-$3.log" 2>&1
	sleep 0.2
	after=$(/run/machine/busy)
	if [ -s "$result" ]; then
		echo "$1 $2 $3 $(cat "$result") $((after - before))" >>"$out/results"
	else
		echo "bench: $1, $2, $3 fails: $(tail -n 3 "$out/$1-$2-$3.log" | tr '\n' ' ')" >&2
	fi
}

# What is read once is in memory; hull has its template.
measure hull rootfs nothing
rm -f "$out/results"
while pgrep -x hull-template >/dev/null; do sleep 0.1; done
for name in nothing "$@"; do
	for ((run = 0; run < runs; run++)); do
		for system in ${SYSTEMS:-hull runc virtiofsd}; do
			for place in rootfs bind; do
				[ "$system $place" = "virtiofsd bind" ] || measure "$system" "$place" "$name"
			done
		done
	done
done
clean

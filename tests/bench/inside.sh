#!/bin/bash
# Inside the emulated host: runs each program several times and writes a file for each: one line a run, as
# /run/machine/busy prints it. In the mode "wall" also NAME.memory, the PSS of an idle container, and NAME.available, by how
# much less memory is available for each of twenty, in KiB.
#
#   inside.sh wall|icount BUILD OUT RUNS
set -u
mode=$1 build=$2 out=$3 runs=$4
bundle=/scratch/bundle idle=/scratch/idle
runtime=$(cd "$(dirname "$0")/../../runtime" && pwd)

# Everything is copied to the scratch disk, and run once before it is measured: the build machine's root comes over 9p.
cp -r "$build/bin" "$build/share" "$build/bench/initramfs.cpio" /scratch/
hull=/scratch/bin/hull
mkdir -p "$bundle/rootfs"/{bin,proc,sys,dev,tmp,etc} "$idle"
cp /bin/busybox "$bundle/rootfs/bin/"
for applet in true sleep sh; do ln -s busybox "$bundle/rootfs/bin/$applet"; done
ln -s "$bundle/rootfs" "$idle/rootfs"
(cd "$bundle" && runc spec)
cp "$bundle/config.json" "$bundle/spec.json"
jq '.process.terminal = false | .process.args = ["/bin/true"]' "$bundle/spec.json" >"$bundle/config.json"
jq --arg root "$bundle/rootfs" '.process.terminal = false | .process.args = ["/bin/sleep", "1000"] | .root.path = $root' \
	"$bundle/spec.json" >"$idle/config.json"

# QEMU at its leanest: none of the devices that microvm has by default. Memory and the kernel's command line are hull's own.
memory=$(sed -n 's/^#define VM_MEMORY_DEFAULT (\([0-9]*\)ull << 20)$/\1/p' "$runtime/vm_size.h")
command_line=$(printf '#include "%s"\nKERNEL_CMDLINE\n' "$runtime/kernel_cmdline.h" | cpp -P | tail -n 1 | sed 's/" *"//g; s/^"//; s/"$//')
[ -n "$memory" ] && [ -n "$command_line" ] || {
	echo "bench: cannot find hull's memory size or kernel command line" >&2
	exit 1
}
microvm=(qemu-system-x86_64 -M microvm,accel=kvm,pit=off,pic=off,rtc=off,isa-serial=off -cpu host -m $memory -nodefaults -no-user-config
	-display none -no-reboot -kernel /scratch/share/hull/vmlinux -initrd /scratch/initramfs.cpio)

# A program that hangs is ended by the machine's own time-out. None in here: an emulated machine that counts instructions
# jumps to its next timer whenever it waits for a file of the build machine, and that timer would be this one.
measure() { # measure NAME COMMAND...
	local name=$1
	shift
	if ! "$@" >"$out/$name.log" 2>&1; then
		echo "bench: $name fails: $(tail -n 3 "$out/$name.log" | tr '\n' ' ')" >&2
		return
	fi
	/run/machine/busy -n "$runs" -s 300 "$@" >"$out/$name" 2>>"$out/$name.log"
}

# Forked from a template, and booted.
"$hull" template create >/dev/null
jq '.annotations = {"hull.template": "off"}' "$bundle/config.json" >"$bundle/cold.json"
measure hull "$hull" run --bundle "$bundle" bench
measure hull-cold "$hull" run --bundle "$bundle" --config cold.json bench
measure runc runc run --bundle "$bundle" bench
measure crun crun run --bundle "$bundle" bench
measure microvm "${microvm[@]}" -append "$command_line"

# A further process in a container that runs.
for name in hull runc crun; do
	runtime=$name
	[ "$name" = hull ] && runtime=$hull
	"$runtime" run --bundle "$idle" --detach busy </dev/null >>"$out/$name.log" 2>&1
	measure "$name-exec" "$runtime" exec busy /bin/true
	"$runtime" delete --force busy >>"$out/$name.log" 2>&1
done
[ "$mode" = wall ] || exit 0

pss() { # pss PID...: KiB
	local pid
	for pid in "$@"; do cat "/proc/$pid/smaps_rollup"; done 2>/dev/null | awk '/^Pss:/ { sum += $2 } END { print sum }'
}

idle_container() { # idle_container NAME RUNTIME: the processes that were not there before are the container's
	local before after
	before=$(cd /proc && echo [0-9]*)
	"$2" run --bundle "$idle" --detach idle </dev/null >>"$out/$1.log" 2>&1 || return
	sleep 5
	after=$(cd /proc && comm -13 <(tr ' ' '\n' <<<"$before" | sort) <(printf '%s\n' [0-9]* | sort) | while read -r pid; do
		[ -e "$pid/exe" ] && readlink "$pid/exe" >/dev/null && [ "$pid" != $$ ] && [ "$pid" != "$BASHPID" ] && echo "$pid"
	done)
	for pid in $after; do echo "idle: $pid $(cat "/proc/$pid/comm" 2>/dev/null)" >>"$out/$1.log"; done
	# shellcheck disable=SC2086
	pss $after >"$out/$1.memory"
	"$2" delete --force idle >>"$out/$1.log" 2>&1
}
many_idle() { # many_idle NAME RUNTIME
	local before after i
	"$2" run --bundle "$idle" --detach idle0 </dev/null >>"$out/$1.log" 2>&1 || return
	before=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
	for i in $(seq 20); do "$2" run --bundle "$idle" --detach "idle$i" </dev/null >>"$out/$1.log" 2>&1; done
	sleep 3
	after=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
	echo $(((before - after) / 20)) >"$out/$1.available"
	for i in $(seq 0 20); do "$2" delete --force "idle$i" >>"$out/$1.log" 2>&1; done
	sleep 3
}
many_idle hull "$hull"
many_idle runc runc
many_idle crun crun
idle_container hull "$hull"
idle_container runc runc
idle_container crun crun
"${microvm[@]}" -append "$command_line -- idle" >>"$out/microvm.log" 2>&1 </dev/null &
sleep 8
pss $! >"$out/microvm.memory"
kill $!

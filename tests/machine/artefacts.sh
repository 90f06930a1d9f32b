# Sourced by run: what a machine is made of, built once and kept in the cache, by the hash of what it is made from.
# Everything appears under its final name by one rename, so that two that build it at once do not meet.
# Sets: KERNEL (uncompressed, PVH-bootable vmlinux), INITRAMFS, SUPERVISE, BUSY.

cache=${HULL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hull}/machine

stop() {
	echo "machine: $*" >&2
	exit 125
}

# publish TEMPORARY FINAL: whoever is first wins, the other one's work is thrown away.
publish() {
	mv -T "$1" "$2" 2>/dev/null || rm -rf "$1"
	[ -e "$2" ] || stop "cannot write $2"
}

temporary() {
	mkdir -p "$cache" && mktemp -d "$cache/.new.XXXXXX" || stop "cannot write to $cache (disk full?)"
}

# The newest of Debian's ordinary kernels that is installed with its modules, else the one that apt offers, unpacked in the
# cache (its maintainer scripts would make an initrd that nothing needs). Sets: image, release, modules (directory).
find_kernel() {
	local candidate package new
	for candidate in $(printf '%s\n' /boot/vmlinuz-*-amd64 | sort -rV); do
		release=${candidate#/boot/vmlinuz-}
		case $release in *cloud* | *rt*) continue ;; esac
		if [ -r "$candidate" ] && [ -e "/lib/modules/$release/modules.dep" ]; then
			image=$candidate
			modules=/lib/modules/$release
			return
		fi
	done
	for candidate in "$cache"/debian-*/boot/vmlinuz-*-amd64; do
		[ -e "$candidate" ] || continue
		image=$candidate
		release=${candidate##*/vmlinuz-}
		modules=${candidate%/boot/*}/lib/modules/$release
		return
	done
	package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
	[ -n "$package" ] || stop "no Debian kernel: install linux-image-amd64, or apt-get update so that it can be downloaded"
	new=$(temporary)
	(cd "$new" && apt-get -qq download "$package" && dpkg-deb -x ./*.deb . && rm ./*.deb) >&2 || stop "cannot download $package"
	release=${package#linux-image-}
	/sbin/depmod -b "$new" "$release" || stop "depmod failed"
	publish "$new" "$cache/debian-$release"
	image=$cache/debian-$release/boot/vmlinuz-$release
	modules=$cache/debian-$release/lib/modules/$release
}

bytes() { # bytes FILE OFFSET COUNT: a little-endian number
	od -An -v -tu"$3" -j"$2" -N"$3" "$1" | tr -d ' '
}

# The kernel as it was before compression: decompressing it under emulation takes seconds. Its place in the file is in the
# header of Linux's x86 boot protocol: setup_sects, payload_offset, payload_length (which counts 4 bytes of size that
# follow the xz stream).
extract_kernel() {
	local key new sectors offset length
	key=$(stat -c '%n %s %Y' "$image" | sha256sum | cut -c1-16)
	KERNEL=$cache/kernel-$key/vmlinux
	[ -e "$KERNEL" ] && return
	sectors=$(bytes "$image" $((0x1f1)) 1)
	offset=$(bytes "$image" $((0x248)) 4)
	length=$(bytes "$image" $((0x24c)) 4)
	new=$(temporary)
	tail -c +$(((sectors + 1) * 512 + offset + 1)) "$image" | head -c $((length - 4)) | xz -dc >"$new/vmlinux" ||
		stop "cannot extract the kernel from $image"
	publish "$new" "${KERNEL%/*}"
}

# In the order in which they must be loaded, each once.
module_order() {
	local module
	for module in virtio_pci virtio_console virtio_blk 9pnet_virtio 9p overlay ext4 kvm-amd; do
		/sbin/modprobe -d "${modules%/lib/modules/*}/" -S "$release" --show-depends "$module" || stop "no module $module in $modules"
	done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++'
}

compile() { # compile SOURCE PROGRAM
	"${CC:-gcc}" -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -static "$here/$1" -o "$2" -pthread || stop "cannot compile $1"
	strip "$2"
}

make_parts() {
	local key new module applet
	key=$({
		stat -c '%n %s %Y' "$image" /bin/busybox
		cat "$here"/{artefacts.sh,init,pid1.c,supervise.c,busy.c,wire.h}
	} | sha256sum | cut -c1-16)
	INITRAMFS=$cache/parts-$key/initramfs
	SUPERVISE=$cache/parts-$key/supervise
	BUSY=$cache/parts-$key/busy
	[ -e "$INITRAMFS" ] && return
	new=$(temporary)
	mkdir -p "$new/root"/{bin,modules,proc,sys,dev}
	cp /bin/busybox "$new/root/bin/busybox"
	for applet in $(/bin/busybox --list); do
		ln -s busybox "$new/root/bin/$applet" 2>/dev/null
	done
	cp "$here/init" "$new/root/init"
	chmod 755 "$new/root/init"
	compile pid1.c "$new/root/pid1"
	compile supervise.c "$new/supervise"
	compile busy.c "$new/busy"
	cp "$new/busy" "$new/root/busy"
	for module in $(module_order); do
		cp "$module" "$new/root/modules/" || stop "cannot copy $module"
		echo "${module##*/}" >>"$new/root/modules/order"
	done
	echo "$modules" >"$new/root/modules/tree"
	(cd "$new/root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 >"$new/initramfs") || stop "cannot write the initramfs"
	rm -r "$new/root"
	publish "$new" "$cache/parts-$key"
}

# A formatted, empty, sparse disk of $1 GiB. QEMU writes to a temporary copy-on-write file above it, which it unlinks at once.
make_disk() {
	local new
	DISK=$cache/disk-$1/ext4
	[ -e "$DISK" ] && return
	new=$(temporary)
	truncate -s "${1}G" "$new/ext4" &&
		/sbin/mkfs.ext4 -q -F -m 0 -O '^has_journal' -E lazy_itable_init=1,nodiscard "$new/ext4" || stop "cannot make the scratch disk"
	publish "$new" "$cache/disk-$1"
}

find_kernel
extract_kernel
make_parts

#!/bin/bash
# Block devices and image files of the host as disks of a container: as its root file system, mounted, and as devices.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
image() { # FILE SIZE [DIRECTORY]: an ext4 file system, with what is in the directory
	truncate -s "$2" "$1" && mkfs.ext4 -q -F ${3:+-d "$3"} "$1"
}
run() { # NAME COMMAND: runs a shell in bundle NAME; output and messages in $out, status in $status
	out=$(cd "$work/$1" && edit . ".process.args = $(jq -nc --arg c "$2" '["sh", "-c", $c]')" && "$hull" run "disk-$1" 2>&1 </dev/null)
	status=$?
}
capabilities='.process.capabilities |= map_values(["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_MKNOD","CAP_KILL"])'

# --- mounted ------------------------------------------------------------------------------------------------------------
image "$work/volume.img" 32M
bundle "$work/a" "$work/rootfs" true
edit "$work/a" "$capabilities | .mounts += [{destination:\"/data\", type:\"ext4\", source:\"$work/volume.img\", options:[\"noatime\"]}]"
run a 'echo kept >/data/file; mkdir /data/sub; grep /data /proc/mounts | cut -d" " -f2-4; dmesg 2>/dev/null | grep -c "EXT4-fs error"'
same "an image file, mounted" "/data ext4 rw,noatime
0" "$out"
run a 'cat /data/file; ls /data | sort | tr "\n" " "; echo; mknod /tmp/raw b $(stat -c "%d" /data >/dev/null; sed -n "s/ *\([0-9]*\) *\([0-9]*\) .* vda$/\1 \2/p" /proc/partitions) && head -c 1 /tmp/raw'
same "what was written is there again" "kept
file lost+found sub " "$(head -n 2 <<<"$out")"
check "the disk itself is not the container's" grep -q 'Operation not permitted' <<<"$out"
mkdir -p "$work/mnt" && mount -o loop,ro "$work/volume.img" "$work/mnt"
same "and on the host" kept "$(cat "$work/mnt/file")"
umount "$work/mnt"
check "the file system was unmounted cleanly" grep -qE 'state: +clean' <(dumpe2fs -h "$work/volume.img" 2>/dev/null)
edit "$work/a" '.mounts[-1].options = ["ro"]'
run a 'cat /data/file; echo no >/data/file'
check "read-only" grep -q 'Read-only file system' <<<"$out"

# --- a block device of the host ---------------------------------------------------------------------------------------
device=$(losetup -f --show "$work/volume.img")
edit "$work/a" ".mounts[-1].options = [] | .mounts[-1].source = \"$device\""
run a 'cat /data/file'
same "a block device, mounted" kept "$out"
mount "$device" "$work/mnt"
run a true
check "one that the host has mounted is refused" grep -q "mounts\[.*\].source: \`$device\` is in use on this host" <<<"$out"
umount "$work/mnt"

# --- in a forked machine ------------------------------------------------------------------------------------------------
if "$hull" template list | grep -q 512; then
	edit "$work/a" ".mounts[-1].source = \"$work/volume.img\" | .process.args = [\"sleep\", \"1000\"]"
	"$hull" run -d --pid-file "$work/pid" -b "$work/a" disk-forked </dev/null >/dev/null 2>&1
	same "a disk comes to a machine that was forked" kept "$("$hull" exec disk-forked cat /data/file)"
	check "which it was" grep -q /memory "/proc/$(cat "$work/pid")/maps"
	"$hull" delete --force disk-forked
fi

# --- as devices ---------------------------------------------------------------------------------------------------------
bundle "$work/b" "$work/rootfs" true
head -c 1M /dev/urandom >"$work/raw.img"
cp "$work/raw.img" "$work/raw.copy"
edit "$work/b" "$capabilities | .annotations = {\"hull.disk.raw\":\"$work/raw.img\", \"hull.disk.fixed\":\"$work/raw.copy,ro\"}"
run b 'cat /dev/raw | sha256sum; cat /dev/fixed | sha256sum; echo changed | dd of=/dev/raw bs=1 seek=4096 conv=notrunc,fsync 2>/dev/null; echo changed | dd of=/dev/fixed conv=notrunc,fsync 2>&1 | grep -o "not permitted\|Read-only"; ls -l /dev/raw | cut -c1-10'
sum=$(sha256sum <"$work/raw.copy")
same "devices by annotation" "$sum
$sum" "$(head -n 2 <<<"$out")"
check "the second is read-only" grep -qE '^(not permitted|Read-only)$' <<<"$out"
same "a block device with the usual mode" brw-rw---- "$(tail -n 1 <<<"$out")"
same "what was written to it is in the file" changed "$(tail -c +4097 "$work/raw.img" | head -n 1)"
same "the other one is as before" "$sum" "$(sha256sum <"$work/raw.copy")"

# A device of the host by its numbers, as engines name them; the rules are about those numbers as well.
raw=$(losetup -f --show "$work/raw.copy")
numbers=$(stat -c '"major":%Hr,"minor":%Lr' "$raw")
bundle "$work/e" "$work/rootfs" true
edit "$work/e" "$capabilities | .linux.devices = [{type:\"b\", path:\"/dev/volume\", $numbers, fileMode:384, uid:0, gid:0}]
	| .linux.resources.devices += [{allow:true, type:\"b\", $numbers, access:\"r\"}]"
run e 'sha256sum </dev/volume; echo no >/dev/volume; ls -l /dev/volume | cut -c1-10'
same "a host's device" "$sum" "$(head -n 1 <<<"$out")"
check "which may be read and not written" grep -q 'Operation not permitted' <<<"$out"
same "with the mode of the spec" brw------- "$(tail -n 1 <<<"$out")"
losetup -d "$raw"
edit "$work/e" '.linux.devices[0].minor = 250'
run e 'head -c 1 /dev/volume'
check "one that the host does not have is there and cannot be opened" grep -qE 'No such device|Operation not permitted' <<<"$out"

# --- the root file system -----------------------------------------------------------------------------------------------
image "$work/root.img" 64M "$work/rootfs"
bundle "$work/c" "$work/root.img" true
run c 'echo written >/file; stat -f -c %T /; id -u'
same "an image as the root file system" "ext2/ext3
0" "$out"
run c 'cat /file'
same "it keeps what is written" written "$out"
edit "$work/c" '.root.readonly = true'
run c 'cat /file; echo no >/file'
check "read-only" grep -q 'Read-only file system' <<<"$out"
(cd "$work/c" && edit . '.process.args = ["sleep", "1000"]' && "$hull" run -d disk-c1 </dev/null >/dev/null 2>&1)
run c 'cat /file'
same "several may read one image" written "$out"
edit "$work/c" '.root.readonly = false'
run c true
check "but none may write it then" grep -q "root.img. is in use by another machine" <<<"$out"
"$hull" delete --force disk-c1
run c 'echo again >/file && cat /file'
same "and then one may" again "$out"
truncate -s 1M "$work/empty.img"
bundle "$work/d" "$work/empty.img" true
run d true
check "an image without a file system" grep -q 'holds neither ext4 nor erofs' <<<"$out"

# --- what is refused ------------------------------------------------------------------------------------------------
refused() { # DESCRIPTION PATTERN JQ
	bundle "$work/r" "$work/rootfs" true
	edit "$work/r" "$3"
	run r true
	if [ "$status" -eq 1 ] && grep -qE -- "$2" <<<"$out"; then ok "$1"; else not_ok "$1" "status $status: $out"; fi
}
refused "a source that does not exist" 'mounts\[.*\].source: open `/nowhere`: No such file' '.mounts += [{destination:"/data", type:"ext4", source:"/nowhere"}]'
refused "a directory as a disk" 'is neither a block device nor an image file' '.mounts += [{destination:"/data", type:"ext4", source:"/tmp"}]'
refused "a file system that the guest does not have" 'mounts\[.*\].type: `xfs` is not supported' '.mounts += [{destination:"/data", type:"xfs", source:"/dev/loop0"}]'
refused "a name that is none" 'annotations.hull.disk.a/b: `a/b` is not a name' '.annotations = {"hull.disk.a/b":"/dev/loop0"}'
refused "an annotation without a path" 'annotations.hull.disk.a: the path .* is missing' '.annotations = {"hull.disk.a":""}'
refused "more disks than there are places" 'more than 24 disks' ".annotations = ([range(25)] | map({key:\"hull.disk.d\(.)\", value:\"$work/raw.copy,ro\"}) | from_entries)"
losetup -d "$device"
same "nothing is left" "" "$(leftovers)"

#!/bin/bash
# The root file system and bind mounts are the host's: what one side does the other sees, with owner, mode, xattrs and times.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
mkdir -p "$work/volume" "$work/readonly"
echo "from the host" >"$work/rootfs/host.txt"
echo "in the volume" >"$work/volume/host.txt"
echo "single" >"$work/single"
echo "fixed" >"$work/readonly/fixed"
chown 123:456 "$work/volume/host.txt"
chmod 640 "$work/volume/host.txt"

bundle "$work/b" "$work/rootfs" sh -c '
cat /host.txt; cat /volume/host.txt; stat -c "%u:%g %a" /volume/host.txt; cat /etc/single
echo "from inside" >/inside.txt; chown 1000:2000 /inside.txt; chmod 4751 /inside.txt; touch -d "2001-02-03 04:05:06" /inside.txt
ln /inside.txt /hard.txt; ln -s inside.txt /soft.txt; mkfifo /fifo; mknod /device c 1 3; mkdir -m 1777 /sticky
echo more >>/volume/host.txt; echo replaced >/etc/single
echo no >/readonly/fixed; echo "status $?"; rm /readonly/fixed; echo "status $?"
dd if=/dev/zero of=/sparse bs=1 count=1 seek=10M 2>/dev/null
mkdir -p /deep/a/b/c; mv /deep/a/b /deep/moved; rmdir /deep/a'
edit "$work/b" ".mounts += [
	{\"destination\":\"/volume\",\"type\":\"bind\",\"source\":\"$work/volume\",\"options\":[\"rbind\",\"rw\"]},
	{\"destination\":\"/readonly\",\"type\":\"bind\",\"source\":\"$work/readonly\",\"options\":[\"bind\",\"ro\"]},
	{\"destination\":\"/etc/single\",\"type\":\"bind\",\"source\":\"$work/single\",\"options\":[\"bind\"]}]
	| .process.capabilities |= map_values(. + [\"CAP_CHOWN\",\"CAP_FOWNER\",\"CAP_MKNOD\",\"CAP_FSETID\",\"CAP_DAC_OVERRIDE\"])"
output=$("$hull" run --bundle "$work/b" files 2>"$work/err" </dev/null)
same "what the container read" "from the host
in the volume
123:456 640
single
status 1
status 1" "$output"
same "file made inside: owner, mode, links, time" "1000:2000 4751 2 981173106" \
	"$(TZ=UTC stat -c '%u:%g %a %h %Y' "$work/rootfs/inside.txt")"
same "its content" "from inside" "$(cat "$work/rootfs/hard.txt")"
same "symbolic link" inside.txt "$(readlink "$work/rootfs/soft.txt")"
same "fifo" "fifo" "$(stat -c %F "$work/rootfs/fifo")"
same "device node" "character special file 1,3" "$(stat -c '%F %t,%T' "$work/rootfs/device")"
same "sticky directory" 1777 "$(stat -c %a "$work/rootfs/sticky")"
same "sparse file: size and that it is sparse" "10485761 yes" \
	"$(stat -c %s "$work/rootfs/sparse") $([ "$(stat -c %b "$work/rootfs/sparse")" -lt 100 ] && echo yes)"
same "renamed directory" "c" "$(ls "$work/rootfs/deep/moved")"
same "a volume's file, appended to" "in the volume more" "$(tr '\n' ' ' <"$work/volume/host.txt" | sed 's/ $//')"
same "a single file, replaced" replaced "$(cat "$work/single")"
same "a read-only volume" fixed "$(cat "$work/readonly/fixed")"

# Both directions while the container runs.
# The container's root has no CAP_DAC_OVERRIDE: others must be allowed to read the file.
chmod 644 "$work/volume/host.txt"
bundle "$work/live" "$work/rootfs" sh -c 'while [ ! -e /volume/go ]; do sleep 0.1; done; cat /volume/go; cat /rootgo; echo seen >/volume/seen
	while [ ! -e /volume/stop ]; do sleep 0.1; done; cat /volume/host.txt'
edit "$work/live" ".mounts += [{\"destination\":\"/volume\",\"type\":\"bind\",\"source\":\"$work/volume\",\"options\":[\"rbind\",\"rw\"]}]"
"$hull" run --bundle "$work/live" live >"$work/live.out" 2>&1 </dev/null &
runner=$!
sleep 3
echo "root go" >"$work/rootfs/rootgo"
echo "go" >"$work/volume/go.new" && mv "$work/volume/go.new" "$work/volume/go"
wait_for test -s "$work/volume/seen"
same "written inside, seen outside while it runs" seen "$(cat "$work/volume/seen" 2>&1)"
echo changed >"$work/volume/host.txt"
touch "$work/volume/stop"
wait $runner
same "written outside, seen inside while it runs" "go root go changed" "$(tr '\n' ' ' <"$work/live.out" | sed 's/ $//')"

# A full disk and a read-only root.
mkdir "$work/small"
mount -t tmpfs -o size=2m tmpfs "$work/small"
bundle "$work/full" "$work/rootfs" sh -c 'dd if=/dev/zero of=/small/file bs=64k count=100 2>&1 | grep -o "No space left on device"; rm /small/file; echo ok >/small/after; cat /small/after'
edit "$work/full" ".mounts += [{\"destination\":\"/small\",\"type\":\"bind\",\"source\":\"$work/small\",\"options\":[\"bind\"]}]"
same "a full disk, and room again" "No space left on device ok" "$("$hull" run --bundle "$work/full" full 2>&1 </dev/null | tr '\n' ' ' | sed 's/ $//')"
umount "$work/small"
bundle "$work/ro" "$work/rootfs" sh -c 'touch /x 2>&1; mkdir /y 2>&1; touch /tmp/z 2>&1'
edit "$work/ro" '.root.readonly=true'
same "a read-only root" "3" "$("$hull" run --bundle "$work/ro" ro 2>&1 </dev/null | grep -c 'Read-only file system')"
same "nothing is left" "" "$(leftovers)"

#!/bin/bash
# mounts[] under runc and under hull: types, options, propagation, what is copied up, cgroup mounts.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/spec_lib.sh"

mkdir -p "$work/volume/deep/er" "$work/volume/sub"
echo "in the volume" >"$work/volume/file"
mount -t tmpfs -o size=1M,mode=755 tmpfs "$work/volume/sub"
echo "in the mount below" >"$work/volume/sub/file"

# type, mount options and propagation of each mount that the test has made; what is behind them differs
show='awk "{ n = split(\$0, f, \" \"); o = \"\"; for (i = 7; f[i] != \"-\"; i++) { sub(/:[0-9]+/, \"\", f[i]); o = o \" \" f[i] }
	if (f[5] ~ /^\/(m|sys\/fs\/cgroup|dev\/shm|t)/) print f[5], f[6], o, f[i+1] ~ /virtiofs|ext4|overlay/ ? \"files\" : f[i+1] }" /proc/self/mountinfo | sort'
# Times: under runc a bind mount has the mode of the host's mount. What is mounted below the source of a recursive bind mount comes with it, but
# is no mount of its own in the guest, unless it can be written to below one that is read-only.
normalize() { sed -E -e '/^\/(m|t)/s/,(rel|no)atime//' -e '/^\/m[^b]\/sub /d' -e 's/^(\/mb\/sub .*) tmpfs$/\1 files/'; }
bind() { # DESTINATION OPTION...
	local destination=$1
	shift
	jq -nc --arg d "$destination" --arg s "$work/volume" '{destination:$d, type:"bind", source:$s, options:$ARGS.positional}' --args -- "$@"
}

new_bundle "$show"'; for m in a b c d e f g h i j k; do cat /m$m/sub/file; (echo x >/m$m/new) 2>/dev/null && echo "$m written" && rm /m$m/new; (echo x >/m$m/sub/new) 2>/dev/null && echo "$m/sub written" && rm /m$m/sub/new; done 2>&1'
edit "$b" ".mounts += [$(bind /ma bind), $(bind /mb rbind ro), $(bind /mc rbind rro), $(bind /md rbind rnosuid rnodev rnoexec rnosymfollow rnodiratime),
	$(bind /me bind noexec nosuid nodev nodiratime nosymfollow), $(bind /mf rbind rshared), $(bind /mg rbind shared), $(bind /mh rbind slave),
	$(bind /mi rbind rprivate), $(bind /mj rbind unbindable), $(bind /mk bind rw suid dev exec async)]"
both "bind mounts and their options"

# What engines put over /etc/resolv.conf, which is a link to nothing in many an image.
ln -s ../run/resolve/stub "$work/rootfs/etc/tolink"
new_bundle 'cat /run/resolve/stub /etc/tolink; readlink /etc/tolink; grep -c " /run/resolve/stub " /proc/mounts'
edit "$b" ".mounts += [{destination:\"/etc/tolink\", source:\"$work/volume/file\", options:[\"bind\"]}]"
both "a destination that is a link to nothing" rm -r "$work/rootfs/run/resolve"
rm -r "$work/rootfs/etc/tolink" "$work/rootfs/run/resolve"

new_bundle 'grep -c " /proc " /proc/mounts; cat /proc/1/comm; true'
edit "$b" '.linux.namespaces -= [{"type":"pid"}] | .mounts |= map((select(.type == "proc") | .type = "none" | .source = "/proc" | .options = ["rbind","nosuid","nodev","noexec"]) // .)'
hull_says "/proc of the host is the machine's" "1
sh"
new_bundle "$show"'; cat /m/file /mfile /made/by/file'
edit "$b" ".mounts += [{destination:\"/m\", type:\"ext4\", source:\"$work/volume\", options:[\"bind\"]}, {destination:\"/mfile\", type:\"tmpfs\", source:\"$work/volume/file\", options:[\"rbind\",\"ro\"]},
	{destination:\"made/by/file\", source:\"$work/volume/file\", options:[\"bind\"]}]"
normalize() { grep -v 'warning' | sed -E -e '/^\/(m|t)/s/,(rel|no)atime//'; }
both "bind mounts by their options alone"

mkdir -p "$work/rootfs/tc/dir/deep" "$work/rootfs/tm"
echo content >"$work/rootfs/tc/dir/deep/file"
ln -sf dir/deep/file "$work/rootfs/tc/link"
chown -h 5:6 "$work/rootfs/tc/dir" "$work/rootfs/tc/link"
chmod 4751 "$work/rootfs/tc/dir/deep/file"
chmod 755 "$work/rootfs/tc/dir"
chmod 1750 "$work/rootfs/tm"
normalize() { sed -E -e 's/nr_inodes=[0-9]+k?,?//; s/,inode64//'; }
new_bundle "$show"'; cd /tc; find . ! -name . | sort | while read -r f; do stat -c "%n %A %u %g %s %N" "$f"; done | sed "s/ [0-9]* \(.\.[^ ]*.\)$/ \1/"; cat dir/deep/file link; echo x >new && echo new; stat -c %a /tc /tm /t1 /t2; (echo x >/t2/x) 2>&1'
edit "$b" '.mounts += [{destination:"/tc", type:"tmpfs", source:"tmpfs", options:["tmpcopyup", "nosuid", "size=1m"]}, {destination:"/tm", type:"tmpfs", source:"x", options:["nodev"]},
	{destination:"/t1", type:"tmpfs", source:"tmpfs", options:["mode=1711", "uid=5", "gid=6"]}, {destination:"/t2", type:"tmpfs", source:"tmpfs", options:["ro", "noexec", "relatime"]},
	{destination:"/m/ramfs", type:"ramfs", source:"ramfs"}, {destination:"/m/mqueue", type:"mqueue", source:"mqueue", options:["nosuid"]},
	{destination:"/m/proc2", type:"proc", source:"proc", options:["nosuid","noexec","ro"]}, {destination:"/m/pts", type:"devpts", source:"devpts", options:["newinstance","mode=0620","ptmxmode=0600"]}]'
# What runc has made in the root file system has another mode than what is not there.
both "file systems of the kernel, copied up content" rm -rf "$work/rootfs/t1" "$work/rootfs/t2"
same "what was copied from is as it was" "dir link" "$(ls "$work/rootfs/tc" | paste -sd ' ')"

new_bundle "$show"'; cat /tr/file; (echo x >/tr/x) 2>&1; df -k /tr | awk "NR == 2 { print \$2 }"'
edit "$b" '.mounts += [{destination:"/tr", type:"tmpfs", source:"tmpfs", options:["size=1m"]}, {destination:"/tr", type:"tmpfs", source:"tmpfs", options:["remount","ro","nosuid","size=2m"]}]'
both "a remount"

show_all='awk "{ n = split(\$0, f, \" \"); o = \"\"; for (i = 7; f[i] != \"-\"; i++) { sub(/:[0-9]+/, \"\", f[i]); o = o \" \" f[i] } if (f[5] !~ /^\/(proc|sys)\//) print f[5] o }" /proc/self/mountinfo | sort'
for propagation in slave rslave private rprivate; do
	new_bundle "$show_all"
	edit "$b" ".linux.rootfsPropagation = \"$propagation\" | .linux.maskedPaths = [] | .linux.readonlyPaths = []"
	both "rootfsPropagation $propagation"
done
# runc 1.1 makes a root file system on a file system of its own private again, and fails with unbindable: later ones do as the specification says.
for propagation in shared unbindable; do
	edit "$b" ".linux.rootfsPropagation = \"$propagation\""
	hull_says "rootfsPropagation $propagation" "/ $propagation
/dev
/dev/mqueue
/dev/pts
/dev/shm
/proc
/sys"
	edit "$b" ".linux.rootfsPropagation = \"r$propagation\""
	hull_says "rootfsPropagation r$propagation" "/ $propagation
/dev $propagation
/dev/mqueue $propagation
/dev/pts $propagation
/dev/shm $propagation
/proc $propagation
/sys $propagation"
done

for namespace in with without; do
	for mode in ro rw; do
		new_bundle "$show"'; cat /proc/self/cgroup | sed "s/container-[0-9]*\|runc-spec-[0-9]*/ID/"; test -e /sys/fs/cgroup/cgroup.procs && echo mounted; (mkdir /sys/fs/cgroup/below && rmdir /sys/fs/cgroup/below && echo "can make one") 2>&1 | sed "s/.*: //"
			(echo 5 >/sys/fs/cgroup/pids.max) 2>&1 | sed "s/.*: //"'
		edit "$b" ".mounts |= map(select(.type != \"cgroup\")) | .mounts += [{destination:\"/sys/fs/cgroup\", type:\"cgroup\", source:\"cgroup\", options:[\"nosuid\",\"noexec\",\"nodev\",\"relatime\",\"$mode\"]}]"
		[ $namespace = with ] || edit "$b" '.linux.namespaces |= map(select(.type != "cgroup"))'
		both "cgroup mount $mode, $namespace a namespace"
	done
done

new_bundle true
edit "$b" '.mounts += [{destination:"/m", type:"nothing", source:"nothing"}]'
both_fail "a file system that does not exist" "o such device"
edit "$b" '.mounts[-1] = {destination:"/m", type:"tmpfs", source:"tmpfs", options:["nonsense"]}'
both_fail "an option that does not exist" "nvalid argument"
edit "$b" '.mounts[-1] = {destination:"/proc/fs", type:"ramfs", source:"ramfs"}'
both_fail "a mount inside of /proc" "inside /proc"
edit "$b" '.mounts[-1] = {destination:"/m", type:"overlay", source:"overlay", options:["lowerdir=/a:/b"]}'
refuses "directories of the host by name" 'mounts[7].type: `overlay` is not supported: its source is the host'
edit "$b" ".mounts[-1] = {destination:\"/m\", type:\"bind\", source:\"$work/volume\", options:[\"bind\",\"idmap\"]}"
refuses "ids to be mapped, but not how" "mounts[7].options: idmap without mappings, and without a user namespace"
mapped() { # OPTION UIDS GIDS
	edit "$b" ".mounts[-1] = {destination:\"/m\", type:\"bind\", source:\"$work/volume\", options:[\"rbind\",\"$1\"], uidMappings:$2, gidMappings:$3}"
}
mapped idmap '[{containerID:0,hostID:5,size:3}]' '[]'
refuses "ids of one kind mapped only" "mounts[7]: uidMappings and gidMappings belong together"
mapped idmap '[{containerID:0,hostID:5,size:3},{containerID:1,hostID:50,size:3}]' '[{containerID:0,hostID:5,size:3}]'
refuses "mappings that overlap" "the kernel refuses the uidMappings: Invalid argument"
edit "$b" '.mounts[-1] = {destination:"/m", type:"tmpfs", source:"tmpfs", options:["idmap"], uidMappings:[{containerID:0,hostID:5,size:3}], gidMappings:[{containerID:0,hostID:5,size:3}]}'
refuses "ids of what is no bind mount" "mounts[7]: ids can be mapped for bind mounts only"

# runc 1.1 knows no mapped ids. So it is the specification: an id of the file system that is a containerID shows as the hostID, and
# what is made with the hostID belongs to the containerID; an id that is not mapped shows as nobody, and can make nothing.
umount "$work/volume/sub"
mkdir -p "$work/lower" "$work/upper" "$work/owork"
mount -t overlay overlay -o "lowerdir=$work/lower,upperdir=$work/upper,workdir=$work/owork" "$work/volume/sub"
chown 2:3 "$work/volume/file"
chown 7:8 "$work/volume/deep/er"
ids='{"all":["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_SETUID","CAP_SETGID"]} as {$all} | .process.capabilities = {bounding:$all, effective:$all, permitted:$all, inheritable:$all, ambient:$all}'
look='cd /m; stat -c "%n %u %g" . file deep/er; echo x >new 2>/dev/null || echo "root cannot"; chown 1001:2002 file; mkdir made; stat -c "%n %u %g" file'
mkdir -p "$work/volume/deep/new"
new_bundle "$look"
edit "$b" "$ids"' | .mounts += [{}] | .process.user = {uid:1000, gid:2000}'
chown 0:0 "$work/volume"
mapped idmap '[{containerID:0,hostID:1000,size:5}]' '[{containerID:0,hostID:2000,size:5}]'
hull_says "ids mapped for one mount, inside" ". 1000 2000
file 1002 2003
deep/er 65534 65534
file 1001 2002"
same "and what that is on the host" "file 1 2
new 0 0
made 0 0
deep/er 7 8" "$(cd "$work/volume" && stat -c '%n %u %g' file new made deep/er)"
rm -rf "$work/volume/new" "$work/volume/made"
edit "$b" ".mounts[-1] = {destination:\"/m\", type:\"bind\", source:\"$work/volume\", options:[\"bind\",\"idmap=uids=0-1000-5;gids=0-2000-5\"]} | .process.args[2] = \"stat -c '%n %u %g' /m /m/deep/er\""
hull_says "the same as crun's option" "/m 1000 2000
/m/deep/er 65534 65534"
edit "$b" '.mounts[-1].options = ["bind","idmap=uids=0-1000"]'
refuses "crun's option, incomplete" 'mounts[7].options: invalid mapping in `idmap=uids=0-1000`'
new_bundle "$look"
edit "$b" "$ids"' | .mounts += [{}] | .process.user = {uid:1000, gid:2000}'
mapped ridmap '[{containerID:0,hostID:1000,size:5}]' '[{containerID:0,hostID:2000,size:5}]'
refuses "a file system that cannot map ids" "the file system there cannot map ids"
umount "$work/volume/sub"
new_bundle "$look"
edit "$b" "$ids"' | .mounts += [{}] | .linux.namespaces += [{type:"user"}] | .linux.uidMappings = [{containerID:0, hostID:100000, size:65536}] | .linux.gidMappings = .linux.uidMappings'
mapped ridmap '[]' '[]'
chown 0:0 "$work/volume/file"
chown -R 100000:100000 "$work/rootfs"
hull_says "ids mapped as those of the user namespace" ". 0 0
file 0 0
deep/er 7 8
file 1001 2002"
same "and what that is on the host: the same" "file 1001 2002
new 0 0
made 0 0" "$(cd "$work/volume" && stat -c '%n %u %g' file new made)"
mount -o remount,nsdelegate /sys/fs/cgroup # which runc has switched off
same "nothing is left" "" "$(leftovers)"

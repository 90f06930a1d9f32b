#!/bin/bash
# Namespaces of another container of the sandbox, joined by path: of all types but mount. The user namespace with its id
# mappings, also in further processes; those of cgroups and clocks.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
touch "$work/rootfs/of-5"
chown -hR 100000:200000 "$work/rootfs"
chown 100005:200006 "$work/rootfs/of-5"
all='[{type:"pid"},{type:"network"},{type:"ipc"},{type:"uts"},{type:"mount"},{type:"cgroup"},{type:"user"},{type:"time"}]'
mappings='.linux.uidMappings = [{containerID:0, hostID:100000, size:1000}] | .linux.gidMappings = [{containerID:0, hostID:200000, size:1000}]'
kinds="pid net ipc uts cgroup user time"

pod() { # ID JQ
	bundle "$work/$1" "$work/rootfs" sleep 100000
	edit "$work/$1" "$2"
	"$hull" run -d --pid-file "$work/$1.pid" -b "$work/$1" "$1" </dev/null >"$work/$1.out" 2>&1 || cat "$work/$1.out"
}
member() { # JQ COMMAND: a member of p, in the foreground
	bundle "$work/m" "$work/rootfs" sh -c "$2"
	edit "$work/m" ".annotations = {\"hull.sandbox\":\"p\"} | $1"
	"$hull" run -b "$work/m" m 2>&1 </dev/null
}
refused() { # DESCRIPTION WORDS JQ
	local output
	output=$(member "$3" true) && not_ok "$1" "it was accepted"
	if grep -q -F -- "$2" <<<"$output"; then ok "$1"; else not_ok "$1" "$output"; fi
}
joined() { # TYPE...: the list of namespaces with those of p by their paths
	local type file list=$all
	for type; do
		file=$type
		[ "$type" = network ] && file=net
		list+=" | map(if .type == \"$type\" then .path = \"/proc/$(cat "$work/p.pid")/ns/$file\" else . end)"
	done
	echo ".linux.namespaces = ($list)"
}

pod p ".linux.namespaces = $all | $mappings | .linux.timeOffsets = {monotonic:{secs:1000}, boottime:{secs:7000}}"
links="for kind in $kinds; do readlink /proc/self/ns/\$kind; done"
theirs=$("$hull" exec p sh -c "$links")
same "a container with all namespaces of its own" 7 "$(wc -l <<<"$theirs")"

everything="$(joined pid network ipc uts cgroup user time) | del(.hostname)"
same "all of them joined" "$theirs" "$(member "$everything" "$links")"
same "ids are mapped as there" "         0     100000       1000
         0     200000       1000" "$(member "$everything" 'cat /proc/self/uid_map /proc/self/gid_map')"
same "and files seen so" "0 0
5 6" "$(member "$everything" 'stat -c "%u %g" /bin /of-5')"
same "clocks too" "monotonic        1000         0
boottime         7000         0" "$(member "$everything" 'cat /proc/self/timens_offsets')"
same "the other's process is seen" "sleep 100000" "$(member "$everything" 'ps -o args' | grep -x 'sleep 100000')"
same "root has its rights there" "changed" "$(member "$everything | .process.capabilities |= map_values([\"CAP_SYS_ADMIN\"])" 'hostname changed && hostname')"
same "the other sees it" changed "$("$hull" exec p hostname)"
same "as another user" "uid=5 gid=6 groups=7" "$(member "$everything | .process.user = {uid:5, gid:6, additionalGids:[7]}" 'id; touch /tmp/made')"
same "whose files are its own" "100005 200006" "$(stat -c '%u %g' "$work/rootfs/tmp/made")"
same "limits hold in its own cgroup" "50" "$(member "$everything | .linux.resources.pids.limit = 50 | .linux.namespaces |= map(if .type == \"cgroup\" then del(.path) else . end)" 'cat /sys/fs/cgroup/pids.max')"
same "with the same mappings in its own specification" "         0     100000       1000" "$(member "$everything | $mappings" 'cat /proc/self/uid_map')"

same "the user namespace alone" "$(sed -n 6p <<<"$theirs")" "$(member "$(joined user) | .process.capabilities |= map_values([\"CAP_NET_ADMIN\"])" 'readlink /proc/self/ns/user; ip addr add 10.1.2.3/8 dev lo 2>&1')"
same "clocks alone" "$(sed -n 7p <<<"$theirs")" "$(member "$(joined time) | .linux.namespaces |= map(select(.type != \"user\"))" 'readlink /proc/self/ns/time')"
same "the cgroup namespace alone" "$(sed -n 5p <<<"$theirs")" "$(member "$(joined cgroup) | .linux.namespaces |= map(select(.type != \"user\"))" 'readlink /proc/self/ns/cgroup')"

bundle "$work/x" "$work/rootfs" sleep 100000
edit "$work/x" ".annotations = {\"hull.sandbox\":\"p\"} | $everything"
"$hull" run -d -b "$work/x" x </dev/null >"$work/x.out" 2>&1
same "one that stays" running "$("$hull" state x | jq -r .status)"
same "further processes of it are in the same" "$theirs" "$("$hull" exec x sh -c "$links")"
same "with its users" "uid=5 gid=6" "$("$hull" exec --user 5:6 x id)"
says "and no others" 255 "cannot set uid to unmapped user" "$hull" exec --user 5000:6 x id
check "it ends on its own" "$hull" delete --force x

refused "other mappings" "are not those of the user namespace that is joined" "$everything | $mappings | .linux.uidMappings[0].hostID = 1"
refused "a user that is not mapped" "cannot set uid to unmapped user" "$everything | .process.user = {uid:1000, gid:0}"
refused "another one's cgroup namespace from a new user namespace" "cannot join another one's cgroup namespace" "$(joined cgroup) | $mappings"
refused "a mount namespace" "is not a namespace of a container in the same sandbox" ".linux.namespaces |= map(if .type == \"mount\" then .path = \"/proc/$(cat "$work/p.pid")/ns/mnt\" else . end)"
"$hull" delete --force p
pod p "."
everything="$(joined pid network ipc uts user) | del(.hostname) | .linux.namespaces |= map(select(.type != \"time\"))"
refused "a user namespace where there is none" "has no user namespace to be joined" "$everything"
"$hull" delete --force p
same "nothing is left" "" "$(leftovers)"

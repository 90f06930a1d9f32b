#!/bin/bash
# Many machines forked from one template, one after the other and at once: each has the right time, randomness of its own,
# and memory that nobody else writes to.
#
#   HULL_TEST_CLONES     how many one after the other (1000); a tenth of it at once
. "$(dirname "$0")/lib.sh"
clones=${HULL_TEST_CLONES:-1000}
rootfs_busybox "$work/rootfs"
cp "$repository/build/tests/clone_probe" "$work/rootfs/probe"
bundle "$work/b" "$work/rootfs" /probe
"$hull" template create >/dev/null

one() { # NAME: the probe's line into $work/lines, what is wrong into $work/wrong; the time is compared here
	local before after line
	before=$(date +%s%N)
	"$hull" run -b "$work/b" "$1" >"$work/out.$1" 2>"$work/err.$1" </dev/null || echo "$1: status $?" >>"$work/wrong"
	after=$(date +%s%N)
	read -r line <"$work/out.$1"
	echo "$line" >>"$work/lines"
	sed -n "2,\$s/^/$1: /p" "$work/out.$1" >>"$work/wrong"
	sed "s/^/$1: /" "$work/err.$1" >>"$work/wrong"
	[ "${line%% *}" -ge $((before - 1000000000)) ] && [ "${line%% *}" -le $((after + 1000000000)) ] || echo "$1: time $line" >>"$work/wrong"
	rm -f "$work/out.$1" "$work/err.$1"
}
: >"$work/wrong"
began=$SECONDS
for i in $(seq "$clones"); do one "seq$i"; done
echo "# $clones one after the other took $((SECONDS - began)) s"
same "$clones one after the other: all is right in each" "" "$(head -n 20 "$work/wrong")"
began=$SECONDS
for i in $(seq $((clones / 10))); do one "par$i" & done
wait
echo "# $((clones / 10)) at once took $((SECONDS - began)) s"
same "$((clones / 10)) at once: all is right in each" "" "$(head -n 20 "$work/wrong")"
all=$((clones + clones / 10))
same "each has said its line" "$all" "$(wc -l <"$work/lines")"
for what in getrandom urandom boot_id AT_RANDOM; do
	same "no two have the same $what" "$all" "$(sed -n "s/.* $what \([^ ]*\).*/\1/p" "$work/lines" | sort -u | wc -l)"
done
same "nothing is left" "" "$(leftovers)"

#!/bin/bash
# The first thing that must work: a container runs, in its own kernel, with each kind of C library.
. "$(dirname "$0")/lib.sh"

rootfs_busybox "$work/busybox"
bundle "$work/b1" "$work/busybox" /bin/sh -c 'uname -r; cat /proc/cmdline; echo done; exit 42'
output=$(cd "$work/b1" && "$hull" run boot1 2>"$work/err")
status=$?
same "exit status of a busybox container" 42 "$status"
same "last line of its output" "done" "$(tail -n 1 <<<"$output")"
same "nothing on stderr" "" "$(cat "$work/err")"
[ "$(head -n 1 <<<"$output")" != "$(uname -r)" ] && ok "its kernel is not the host's" ||
	not_ok "its kernel is not the host's" "$output"

rootfs_musl "$work/musl"
bundle "$work/b2" "$work/musl" /bin/program 7 'two words' ''
output=$(cd "$work/b2" && "$hull" run boot2 2>&1)
same "exit status of a musl container" 7 $?
same "output of a musl container" "musl pid 1 uid 0 cwd / path /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
argument 1 <7>
argument 2 <two words>
argument 3 <>" "$output"

rootfs_debian "$work/debian"
bundle "$work/b3" "$work/debian" /bin/bash -c '. /etc/os-release; echo $ID; exit 1'
output=$(cd "$work/b3" && "$hull" run boot3 2>&1)
same "exit status of a Debian container" 1 $?
same "output of a Debian container" debian "$output"
# What the host's clock says before and after the question brackets what the guest's says. That it comes so close is a matter of
# milliseconds, or of some seconds on a host with other things to do: it is asked again until it does.
clock() { date +%s%N; }
bundle "$work/b4" "$work/debian" /bin/sh -c 'while read -r line; do date +%s%N; done'
mkfifo "$work/ask" "$work/answer"
"$hull" run --bundle "$work/b4" boot4 <"$work/ask" >"$work/answer" &
exec 7>"$work/ask" 8<"$work/answer"
margin=100000000
clocks_agree() {
	before=$(clock)
	echo go >&7
	read -r -t "$WAIT_SECONDS" inside <&8
	after=$(clock)
	[ "${inside:-0}" -ge $((before - margin)) ] && [ "$inside" -le $((after + margin)) ]
}
wait_for clocks_agree && ok "the guest's clock is the host's" ||
	not_ok "the guest's clock is the host's" "$before to $after outside, $inside inside"
exec 7>&- 8<&-
wait
same "nothing is left" "" "$(leftovers)"

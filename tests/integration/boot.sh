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
# What the host's clock says before and after the question brackets what the guest's says.
clock() { date +%s%N; }
bundle "$work/b4" "$work/debian" /bin/sh -c 'read -r line; date +%s%N'
mkfifo "$work/ask" "$work/answer"
"$hull" run --bundle "$work/b4" boot4 <"$work/ask" >"$work/answer" &
exec 7>"$work/ask" 8<"$work/answer"
until [ "$("$hull" state boot4 2>/dev/null | jq -r .status)" = running ]; do sleep 0.2; done
before=$(clock)
echo go >&7
read -r inside <&8
after=$(clock)
exec 7>&- 8<&-
wait
# The order that sets the clock is some milliseconds old when it arrives.
margin=100000000
check "the guest's clock is the host's" test "$inside" -ge $((before - margin)) -a "$inside" -le $((after + margin))
same "nothing is left" "" "$(leftovers)"

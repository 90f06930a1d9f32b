#!/bin/bash
# stdin, stdout and stderr: whole, in order, with back-pressure, and what happens when one end goes away.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"

run() { # ID ARG...: runs a busybox container
	local id=$1
	shift
	bundle "$work/$id" "$work/rootfs" "$@"
	"$hull" run --bundle "$work/$id" "$id"
}

# A stream that no cache of zeros can fake: AES of zeros would be slow under emulation, so blocks of random bytes, each repeated.
dd if=/dev/urandom of="$work/block" bs=1M count=16 2>/dev/null
gigabyte() { for _ in $(seq 64); do cat "$work/block"; done; }
expected=$(gigabyte | cksum)
began=$SECONDS
actual=$(gigabyte | run cat cat | cksum)
same "1 GiB through cat, from stdin to stdout" "$expected" "$actual"
echo "# checksum and bytes: $actual; $((SECONDS - began)) s"

run lines sh -c 'i=0; while [ $i -lt 1000 ]; do seq 1 1000; seq 1 1000 >&2; i=$((i+1)); done' \
	>"$work/out" 2>"$work/err"
expected=$(for _ in $(seq 1000); do seq 1 1000; done | cksum)
same "a million lines on stdout" "$expected" "$(cksum <"$work/out")"
same "a million lines on stderr" "$expected" "$(cksum <"$work/err")"
echo "# checksum and bytes: $expected; $(wc -l <"$work/out") and $(wc -l <"$work/err") lines"

same "stdin at its end from the start" "0" "$(run empty wc -c </dev/null | tr -d ' ')"
same "stdin from a file" "$(wc -c <"$work/block")" "$(run file wc -c <"$work/block" | tr -d ' ')"
run tofile sh -c 'echo one; echo two' >"$work/tofile.out"
same "stdout to a file" "one two" "$(tr '\n' ' ' <"$work/tofile.out" | sed 's/ $//')"
echo first >"$work/append.out"
run append echo second >>"$work/append.out"
same "stdout appended to a file" "first second" "$(tr '\n' ' ' <"$work/append.out" | sed 's/ $//')"

# The reader goes away: the writer inside gets SIGPIPE and the container ends, as with runc.
run pipe sh -c 'yes; echo "yes ended $?" >&2' 2>"$work/pipe.err" | head -n 3 >"$work/pipe.out"
same "three lines of an endless stream" "y y y" "$(tr '\n' ' ' <"$work/pipe.out" | sed 's/ $//')"
check "an endless writer ends when its reader has gone" grep -q 'yes ended' "$work/pipe.err"

# The container does not wait for a stdin that never ends.
sleep 1000 > >(run notread echo hello >"$work/notread.out"; echo $? >"$work/notread.status") &
sleeper=$!
wait_for test -s "$work/notread.status"
kill $sleeper
same "a stdin that is open and not read does not hold the container" 0 "$(cat "$work/notread.status")"

# Back-pressure: nobody reads for a while, then all of it arrives.
bytes=$(run slow sh -c 'dd if=/dev/zero bs=64k count=256 2>/dev/null' | (sleep 5; wc -c))
same "16 MiB for a reader that is late" 16777216 "$bytes"
"$hull" list -q >/dev/null
same "closed stdio" 3 "$(bundle "$work/closed" "$work/rootfs" sh -c 'exit 3'; "$hull" run --bundle "$work/closed" closed <&- >&- 2>&-; echo $?)"

# /dev/stdout is a pipe that can be opened again, also by a user who is not root.
bundle "$work/reopen" "$work/rootfs" sh -c 'echo again >/dev/stdout; echo oops >/dev/stderr'
edit "$work/reopen" '.process.user = {"uid": 1000, "gid": 1000}'
same "a user opens /dev/stdout again" again "$("$hull" run --bundle "$work/reopen" reopen 2>"$work/reopen.err")"
same "a user opens /dev/stderr again" oops "$(cat "$work/reopen.err")"
same "nothing is left" "" "$(leftovers)"

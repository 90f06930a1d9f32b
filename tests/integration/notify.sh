#!/bin/bash
# NOTIFY_SOCKET: create, start and run pass on that the container is ready, as runc does.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
cp "$repository/build/tests/socket_client" "$work/rootfs/client"
cat >"$work/listener.py" <<'PY'
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
while message := listener.recv(4096):
    print(message.decode().strip(), flush=True)
PY
python3 "$work/listener.py" "$work/notify" >"$work/notified" 2>&1 &
listener=$!
wait_for test -S "$work/notify"
export NOTIFY_SOCKET=$work/notify
script='echo "$NOTIFY_SOCKET"; until [ -e /go ]; do sleep 0.1; done; printf STATUS=busy | /client $NOTIFY_SOCKET datagram; printf "STATUS=up\nREADY=1" | /client $NOTIFY_SOCKET datagram; until [ -e /told ]; do sleep 0.1; done'
bundle "$work/n" "$work/rootfs" sh -c "$script"
told() { grep -q "$1" "$work/notified"; }
rm -f "$work/rootfs/go" "$work/rootfs/told"
"$hull" create -b "$work/n" noted </dev/null >"$work/noted" 2>&1
"$hull" start noted &
start=$!
is_running() { [ "$("$hull" state noted | jq -r .status)" = running ]; }
soon "the container runs" is_running
check "start waits until the container is ready" kill -0 "$start"
same "nothing is said meanwhile" "" "$(cat "$work/notified")"
touch "$work/rootfs/go"
wait "$start"
same "start: its status" 0 $?
same "what the host hears, as from runc" "READY=1
MAINPID=$("$hull" state noted | jq .pid)
BARRIER=1" "$(cat "$work/notified")"
same "the socket's place is runc's" /run/notify/notify.sock "$(cat "$work/noted")"
"$hull" delete --force noted
: >"$work/notified"
touch "$work/rootfs/go"
rm -f "$work/rootfs/told"
"$hull" run -b "$work/n" noted </dev/null >"$work/noted" 2>&1 &
run=$!
soon "run in the foreground passes it on" told READY=1
touch "$work/rootfs/told"
wait "$run"
same "run: its status" 0 $?
same "without a main process: that is hull itself" 0 "$(grep -c MAINPID "$work/notified")"
bundle "$work/n" "$work/rootfs" sh -c 'sleep 1; exit 3'
check "run --detach ends with one that never says so" timeout 100 "$hull" run -d -b "$work/n" noted
"$hull" delete --force noted
unset NOTIFY_SOCKET
kill "$listener"
same "nothing is left" "" "$(leftovers)"

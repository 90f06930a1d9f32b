#!/bin/bash
# Unix sockets of the host, bind-mounted into a container: who connects to them inside reaches who listens outside.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
cp "$repository/build/tests/socket_client" "$work/rootfs/client"
cat >"$work/server.py" <<'PY'
import hashlib, os, socketserver, sys
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"hello\n")
        size, digest = 0, hashlib.sha256()
        while data := self.request.recv(65536):
            size += len(data)
            digest.update(data)
        open(sys.argv[1] + ".seen", "a").write(f"{size}\n")
        self.request.sendall(f"{size} {digest.hexdigest()}\n".encode())
class Server(socketserver.ThreadingUnixStreamServer):
    request_queue_size = 64
server = Server(sys.argv[1], Handler)
os.chmod(sys.argv[1], 0o600)
print("ready", flush=True)
server.serve_forever()
PY
python3 "$work/server.py" "$work/server.sock" >"$work/server.out" 2>&1 &
server=$!
wait_for grep -q ready "$work/server.out"
socket=".mounts += [{destination:\"/run/server.sock\", type:\"bind\", source:\"$work/server.sock\", options:[\"rbind\"]}]"
run() { # COMMAND [JQ]
	bundle "$work/b" "$work/rootfs" sh -c "$1"
	edit "$work/b" "$socket | ${2-.}"
	out=$("$hull" run -b "$work/b" socket 2>&1 </dev/null)
	status=$?
}
answer() { printf 'hello\n%s %s' "$(wc -c <"$1")" "$(sha256sum <"$1" | cut -d' ' -f1)"; }
printf 'a question' >"$work/rootfs/question"
head -c 3000000 /dev/urandom >"$work/rootfs/much"
run '/client /run/server.sock </question'
same "a question and its answer" "$(answer "$work/rootfs/question")" "$out"
run '/client /run/server.sock </much'
same "3 MB" "$(answer "$work/rootfs/much")" "$out"
run '/client /run/server.sock 30 </question | grep -c "^10 "; ls -l /run/server.sock | cut -c1-10'
same "30 at once; a socket with the host's mode" "30
srw-------" "$out"
run 'for i in 1 2 3 4 5; do /client /run/server.sock </question; done | grep -c hello'
same "one after the other" 5 "$out"
run '/client /run/server.sock </question' '.process.user = {uid:1000, gid:1000} | .process.capabilities = {}'
check "who may not connect on the host may not inside" grep -q 'Permission denied' <<<"$out"
bundle "$work/p" "$work/rootfs" sh -c 'sleep 1000'
"$hull" run -d -b "$work/p" pod </dev/null >/dev/null 2>&1
run '/client /run/server.sock </question' '.annotations = {"hull.sandbox":"pod"}'
same "in a container that has joined a sandbox" "$(answer "$work/rootfs/question")" "$out"
seen=$(wc -l <"$work/server.sock.seen")
run '/client /run/server.sock hold >/greeting & until grep -q hello /greeting; do sleep 0.1; done; exit 0' '.annotations = {"hull.sandbox":"pod"}'
has_seen() { [ "$(wc -l <"$work/server.sock.seen")" = "$1" ]; }
check "who listens sees the end of one that is killed while it talks" wait_for has_seen $((seen + 1))
no_relay() { [ -z "$(pgrep -x -r D,R,S,T hull-relay)" ]; }
check "whose relay goes with it" wait_for no_relay
"$hull" delete --force pod
# A container that runs while the server goes.
bundle "$work/b" "$work/rootfs" sh -c '/client /run/server.sock </question >/dev/null; echo ready; while [ ! -e /go ]; do sleep 0.1; done; /client /run/server.sock </question; echo status $?'
edit "$work/b" "$socket"
"$hull" run -d -b "$work/b" socket </dev/null >"$work/out" 2>&1
wait_for grep -q ready "$work/out"
relay=$(pgrep -x hull-relay)
same "the relay keeps one capability" "0000000000000002 1" "$(sed -n 's/^CapEff:\s*//p' "/proc/$relay/status") $(sed -n 's/^NoNewPrivs:\s*//p' "/proc/$relay/status")"
kill "$server"
wait "$server" 2>/dev/null
touch "$work/rootfs/go"
wait_for grep -q status "$work/out"
check "nobody listens any more: the connection ends" grep -qE 'status (0|3|5)' "$work/out"
same "without an answer" 0 "$(grep -c hello "$work/out")"
"$hull" delete --force socket
same "nothing is left" "" "$(leftovers)"

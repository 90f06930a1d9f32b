#!/bin/bash
# A container's network: what an engine has put into a network namespace of the host is in the guest, and works; beside
# runc. Interfaces that hooks bring, or that come between create and start, or change while the container runs; what
# cannot be; and that the namespace is left as it was.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
head -c 3000000 /dev/urandom >"$work/rootfs/data"
sum=$(sha256sum <"$work/rootfs/data")

# --- a host with a bridge ---------------------------------------------------------------------------------------------
ip link add br-hull type bridge
ip addr add 10.9.0.1/24 dev br-hull
ip -6 addr add fd09::1/64 dev br-hull nodad
ip link set br-hull up

plug() { # NAMESPACE INTERFACE N: an interface in the namespace whose other end is on the bridge
	ip link add "v$1$3" type veth peer name "$2" netns "$1" &&
		ip link set "v$1$3" master br-hull up &&
		ip -n "$1" addr add "10.9.0.$3/24" brd + dev "$2" &&
		ip -n "$1" -6 addr add "fd09::$3/64" dev "$2" nodad &&
		ip -n "$1" link set "$2" up
}
namespace() { # NAME N: one with a loopback interface, eth0 and routes
	ip netns add "$1" && ip -n "$1" link set lo up && plug "$1" eth0 "$2" &&
		ip -n "$1" route add default via 10.9.0.1 && ip -n "$1" -6 route add default via fd09::1
}
inside() { # NAMESPACE: JQ that puts a container into it, with the right to ping
	echo ".process.capabilities |= map_values(. + [\"CAP_NET_RAW\"]) | .linux.namespaces |= map(if .type == \"network\" then .path = \"/run/netns/$1\" else . end)"
}
picture() { # NAMESPACE: all that there is in it
	ip -n "$1" addr
	ip -n "$1" route show table all
	ip -n "$1" -6 route show table all
	tc -n "$1" qdisc
	for link in $(ip -n "$1" -o link | sed 's/^[0-9]*: \([^:@]*\).*/\1/'); do
		tc -n "$1" filter show dev "$link" ingress
	done
}
unchanged() { # DESCRIPTION NAMESPACE BEFORE
	same "$1" "$3" "$(picture "$2")"
}
start() { # ID JQ [COMMAND]: a container that stays
	bundle "$work/$1" "$work/rootfs" sh -c "${3:-sleep 100000}"
	edit "$work/$1" "$2"
	"$hull" run -d -b "$work/$1" "$1" </dev/null >"$work/$1.out" 2>&1 || not_ok "container $1 starts" "$(cat "$work/$1.out")"
}
# The host has no ping of its own.
reaches() { # ADDRESS: from the host
	case $1 in *:*) busybox ping6 -c 4 "$1" ;; *) busybox ping -c 4 "$1" ;; esac
}
# What a container sees, less what is the host's or the card's own: the other end of a veth, numbers, queues, and that
# nobody looks for duplicates.
look='ip addr | sed "s/@if[0-9]*//; s/^[0-9]*: //; s/ qdisc.*//; s/ flags 02//; s/,M-DOWN//; s/,MULTICAST//; s/ nodad//; s/ *$//"; echo --; ip route; echo --; ip -6 route;
	echo --; ip neigh | grep PERM; ip rule'

# --- as with runc -----------------------------------------------------------------------------------------------------
namespace a 2
ip -n a neigh add 10.9.0.77 lladdr 02:00:00:00:00:77 dev eth0
ip -n a addr add 10.9.0.3/24 dev eth0 label eth0:more
ip -n a addr add 10.77.0.1/32 dev lo
ip -n a route add 10.20.0.0/16 dev eth0 scope link
ip -n a route add 10.21.0.0/16 via 10.20.0.1 onlink dev eth0
ip -n a route add blackhole 10.66.0.0/16
ip -n a rule add from 10.3.0.0/16 table 100 priority 50
ip -n a route add default via 10.9.0.9 table 100
sleep 3
before=$(picture a)
bundle "$work/b" "$work/rootfs" sh -c "$look"
edit "$work/b" "$(inside a)"
runc=$(runc run -b "$work/b" c1 2>&1 </dev/null)
same "addresses, routes, neighbours and rules are runc's" "$runc" "$("$hull" run -b "$work/b" c1 2>&1 </dev/null)"
echo "$runc" | sed 's/^/# /' | head -n 12
unchanged "the namespace is as it was" a "$before"

bundle "$work/b" "$work/rootfs" sh -c 'ping -c 3 -w 20 10.9.0.1 >/dev/null && echo 4; ping6 -c 3 -w 20 fd09::1 >/dev/null && echo 6'
edit "$work/b" "$(inside a)"
same "the host answers" "4
6" "$("$hull" run -b "$work/b" c1 2>&1 </dev/null)"

start c1 "$(inside a)" 'nc -l -p 5000 </data >/dev/null & nc -l -p 5002 </data >/dev/null & sleep 100000 | nc -l -p 5001 >/tmp/received & sleep 100000'
check "it answers the host" reaches 10.9.0.2
check "in IPv6" reaches fd09::2
# An end of its input would end the other side before that has sent everything.
receive() { busybox nc -w 60 "$1" "$2" < <(sleep 60) | sha256sum; }
same "TCP from the container" "$sum" "$(receive 10.9.0.2 5000)"
busybox nc -w 60 10.9.0.2 5001 <"$work/rootfs/data" >/dev/null
same "TCP to the container" "$sum" "$(sleep 1; "$hull" exec c1 sha256sum /tmp/received | sed 's/ .*/  -/')"
same "TCP in IPv6" "$sum" "$(receive fd09::2 5002)"
same "further processes see the same" "$runc" "$("$hull" exec c1 sh -c "$look" 2>&1)"
net=$(pgrep -x hull-net)
same "a process watches the network" 1 "$(wc -w <<<"$net")"
same "with one capability" 0000000000001000 "$(awk '/^CapPrm/ {print $2}' "/proc/$net/status")"
same "in the container's namespace" "$(stat -Lc %i /run/netns/a)" "$(stat -Lc %i "/proc/$net/ns/net")"
same "which is also that of the process that stands for it" "$(stat -Lc %i /run/netns/a)" "$(stat -Lc %i "/proc/$(pgrep -x hull-vmm)/ns/net")"
grep -E '^(Pss|Private_Dirty):' "/proc/$net/smaps_rollup" | sed 's/^/# hull-net: /'

bundle "$work/d" "$work/rootfs" true
edit "$work/d" "$(inside a)"
says "a second machine on the same network" 1 'interface eth0: it leads to the virtual machine of process [0-9]* already' "$hull" run -b "$work/d" d
check "does not harm the first" reaches 10.9.0.2

# --- what happens while it runs ---------------------------------------------------------------------------------------
in_c1() { "$hull" exec c1 sh -c "$1"; }
plug a eth1 102
ip -n a route replace default via 10.9.0.1 dev eth1
soon "an interface that comes" in_c1 'ip addr show eth1 | grep -q 10.9.0.102 && ip route | grep -q "^default via 10.9.0.1 dev eth1"' && ok "an interface that comes, and the routes"
check "works" reaches 10.9.0.102
ip -n a link set eth1 mtu 1280
ip -n a addr add 10.9.0.103/24 dev eth1
soon "a change" in_c1 'ip addr show eth1 | grep -q "mtu 1280" && ip addr show eth1 | grep -q 10.9.0.103' && ok "MTU and addresses change"
ip -n a addr del 10.9.0.103/24 dev eth1
soon "an address that goes" in_c1 '! ip addr show eth1 | grep -q 10.9.0.103' && ok "an address goes"
ip -n a link del eth1
soon "an interface that goes" in_c1 '! ip link show eth1' && ok "an interface goes"
plug a eth1 104
soon "it comes again" in_c1 'ip addr show eth1 | grep -q 10.9.0.104' && ok "and comes again"
check "and works" reaches 10.9.0.104
ip netns add elsewhere
ip -n a link set eth1 netns elsewhere
soon "it is taken away" in_c1 '! ip link show eth1' && ok "an engine takes it away"
same "with nothing of hull's on it" "" "$(tc -n elsewhere qdisc show dev eth1 | grep ingress)"
ip netns del elsewhere
ip -n a route replace default via 10.9.0.1 dev eth0

# --- ends -------------------------------------------------------------------------------------------------------------
no_watcher() { ! pgrep -x -r D,R,S,T hull-net; }
check "delete" "$hull" delete --force c1
unchanged "the namespace is as it was" a "$before"
same "nothing is left" "" "$(leftovers)"
start c1 "$(inside a)"
kill -KILL "$(pgrep -x hull-vmm)"
soon "hull-net ends with hull-vmm" no_watcher && ok "hull-net ends with hull-vmm"
unchanged "after kill -9 of hull-vmm the namespace is as it was" a "$before"
check "delete" "$hull" delete c1
start c1 "$(inside a)"
kill -KILL "$(pgrep -x hull-net)"
check "kill -9 of hull-net harms nobody" reaches 10.9.0.2
kill -KILL "$(pgrep -x hull-vmm)"
sleep 1
check "delete" "$hull" delete --force c1
unchanged "after kill -9 of both the namespace is as it was" a "$before"
start c1 "$(inside a)"
check "the namespace can be used again" reaches 10.9.0.2
"$hull" delete --force c1
same "nothing is left" "" "$(leftovers)"

# --- namespaces without interfaces ------------------------------------------------------------------------------------
ip netns add empty
raw='.process.capabilities |= map_values(. + ["CAP_NET_RAW"])'
for what in "$(inside empty)" "$raw" "$raw | .linux.namespaces |= map(select(.type != \"network\"))"; do
	bundle "$work/b" "$work/rootfs" sh -c 'ip -o link | grep -vc link/sit; ping -c 1 127.0.0.1 >/dev/null && echo lo'
	edit "$work/b" "$what"
	same "no interface: $what" "1
lo" "$("$hull" run -b "$work/b" c1 2>&1 </dev/null)"
done
start c1 "$(inside empty)"
check "nobody watches nothing" no_watcher
"$hull" delete --force c1

# --- interfaces that come later ---------------------------------------------------------------------------------------
cat >"$work/hook" <<'END'
#!/bin/bash
pid=$(/usr/bin/jq .pid)
/bin/touch /run/hooked-netns && /bin/mount --bind /proc/$pid/ns/net /run/netns/hooked || exit 1
/sbin/ip link add vhook type veth peer name hook0
/sbin/ip link set vhook master br-hull up
/sbin/ip link set hook0 netns $pid name eth0
/sbin/ip -n hooked addr add 10.9.0.20/24 dev eth0
/sbin/ip -n hooked link set eth0 up
/sbin/ip -n hooked route add default via 10.9.0.1
END
chmod 755 "$work/hook"
touch /run/netns/hooked
bundle "$work/b" "$work/rootfs" sh -c 'ip addr show eth0 | grep -o "inet 10[^ ]*"; ip route; ping -c 2 -w 20 10.9.0.1 >/dev/null && echo answered'
edit "$work/b" ".process.capabilities |= map_values(. + [\"CAP_NET_RAW\"]) | .hooks = {prestart: [{path: \"$work/hook\"}]}"
same "an interface that a prestart hook brings" "inet 10.9.0.20/24
default via 10.9.0.1 dev eth0 
10.9.0.0/24 dev eth0 scope link  src 10.9.0.20 
answered" "$("$hull" run -b "$work/b" c1 2>&1 </dev/null)"
same "nothing of hull's is in the namespace that somebody keeps" "" "$(ip -n hooked -o link | grep hull; tc -n hooked qdisc | grep ingress)"
umount /run/netns/hooked
sleep 1
ip link del vhook 2>/dev/null
"$hull" create -b "$work/b" --pid-file "$work/pid" c1 </dev/null >"$work/out" 2>&1 || not_ok "create with a hook" "$(cat "$work/out")"
umount /run/netns/hooked
check "start" "$hull" start c1
soon "it ends" eval '"$hull" state c1 | grep -q stopped'
same "an interface that a hook brings at create" answered "$(tail -n 1 "$work/out")"
"$hull" delete c1
ip link del vhook 2>/dev/null
edit "$work/b" 'del(.hooks)'
"$hull" create -b "$work/b" --pid-file "$work/pid" c1 </dev/null >"$work/out" 2>&1 || not_ok "create" "$(cat "$work/out")"
rm -f /run/netns/hooked
ip netns attach hooked "$(cat "$work/pid")"
plug hooked eth0 21
ip -n hooked route add default via 10.9.0.1
check "start" "$hull" start c1
soon "it ends" eval '"$hull" state c1 | grep -q stopped'
same "an interface that comes between create and start" answered "$(tail -n 1 "$work/out")"
"$hull" delete c1
same "nothing of hull's is in the namespace that somebody keeps" "" "$(ip -n hooked -o link | grep hull; tc -n hooked qdisc | grep ingress)"
ip netns del hooked

# --- other interfaces -------------------------------------------------------------------------------------------------
ip netns add b
ip -n b link set lo up
plug b first 30
plug b eth0 31
ip -n b link set eth0 mtu 9000
ip -n b link set first address 02:00:00:00:00:99
ip netns exec b sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1
ip -n b link add dummy7 type dummy
ip -n b addr add 10.30.0.1/24 dev dummy7
ip -n b tuntap add tap3 mode tap
ip -n b link add down0 type dummy
ip -n b link set dummy7 up
bundle "$work/b" "$work/rootfs" sh -c "$look; cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6"
edit "$work/b" "$(inside b)"
sleep 2
same "several, of all kinds" "$(runc run -b "$work/b" c1 2>&1 </dev/null | sort)" "$("$hull" run -b "$work/b" c1 2>&1 </dev/null | sort)"
ip netns add tunnels
ip -n tunnels tuntap add tun3 mode tun
bundle "$work/b" "$work/rootfs" sh -c 'ip -o link | wc -l'
edit "$work/b" "$(inside tunnels)"
same "an interface that is not Ethernet is left out, with a warning" 1 "$("$hull" run -b "$work/b" c1 2>&1 </dev/null | grep -c 'level=warning.*tun3: it is not an Ethernet interface')"

ip link add up0 type veth peer name up1
ip link set up0 up
ip link set up1 up
ip addr add 10.40.0.1/24 dev up0
for kind in "macvlan mode bridge"; do
	ip netns add m
	# shellcheck disable=SC2086
	ip link add mv0 link up1 type $kind && ip link set mv0 netns m name eth0
	ip -n m addr add 10.40.0.2/24 dev eth0
	ip -n m link set eth0 up
	start c1 "$(inside m)" 'ping -c 2 -w 20 10.40.0.1 >/tmp/ping && echo answered >/tmp/answer; sleep 100000'
	check "$kind: the host reaches it" reaches 10.40.0.2
	soon "$kind: it reaches the host" "$hull" exec c1 grep -q answered /tmp/answer && ok "$kind: it reaches the host"
	"$hull" delete --force c1
	same "$kind: nothing is left on it" "" "$(tc -n m qdisc | grep ingress)"
	ip netns del m
	sleep 1
done

ip netns add m
ip link add mv0 link up1 type ipvlan mode l2
ip link set mv0 netns m name eth0
bundle "$work/b" "$work/rootfs" sh -c 'ip -o link | wc -l'
edit "$work/b" "$(inside m)"
same "ipvlan is left out, with a warning" 1 "$("$hull" run -b "$work/b" c1 2>&1 </dev/null | grep -c 'level=warning.*eth0: ipvlan cannot be redirected')"
ip netns del m

# --- what cannot be ---------------------------------------------------------------------------------------------------
bundle "$work/b" "$work/rootfs" true
edit "$work/b" '.linux.namespaces |= map(if .type == "network" then .path = "/proc/1/ns/net" else . end)'
says "the host's own network" 1 'linux.namespaces\[1\].path: `/proc/1/ns/net` is the host.s own network, which a virtual machine cannot share' "$hull" run -b "$work/b" c1
edit "$work/b" '.linux.namespaces |= map(if .type == "network" then .path = "/run/netns/nothing" else . end)'
says "a path that is not there" 1 '/run/netns/nothing' "$hull" run -b "$work/b" c1
same "nothing is left" "" "$(leftovers)"

# --- pods -------------------------------------------------------------------------------------------------------------
start p "$(inside a)"
vmm=$(pgrep -x hull-vmm)
member() { # JQ COMMAND
	bundle "$work/m" "$work/rootfs" sh -c "$2"
	edit "$work/m" ".annotations = {\"hull.sandbox\":\"p\"} | $1"
	"$hull" run -b "$work/m" m 2>&1 </dev/null
}
by_pid=".linux.namespaces |= map(if .type == \"network\" then .path = \"/proc/$vmm/ns/net\" else . end)"
same "a member shares the network" "$runc" "$(member "$by_pid" "$look")"
same "also by the namespace's own path" "$runc" "$(member "$(inside a)" "$look")"
same "one process watches it" 1 "$(pgrep -x hull-net | wc -l)"
namespace own 40
sleep 3
own=$(picture own)
same "a member with a network of its own" "inet 10.9.0.40/24
answered" "$(member "$(inside own)" 'ip addr show eth0 | grep -o "inet 10[^ ]*"; ping -c 2 -w 20 10.9.0.2 >/dev/null && echo answered')"
unchanged "which is as it was" own "$own"
same "a member with a new one" "1" "$(member . 'ip -o link | wc -l')"
check "the sandbox has what it had" reaches 10.9.0.2
same "and no other cards" 2 "$("$hull" exec p ip -o link | grep -vc sit)"
"$hull" delete --force p
unchanged "the sandbox's namespace is as it was" a "$before"

# --- an engine's resolver ---------------------------------------------------------------------------------------------
ip netns exec a python3 "$(dirname "$0")/resolver.py" &
resolver=$!
wait_for ip netns exec a grep -q ': 0B00007F:0035' /proc/net/udp
printf '\0\x1d\x12\x34\1\0\0\1\0\0\0\0\0\0\4name\2of\3tcp\0\0\1\0\1' >"$work/rootfs/question"
start c1 "$(inside a)" 'nc -l -p 53 >/dev/null & sleep 100000'
ask() { "$hull" exec c1 nslookup "$1" 127.0.0.11 2>&1; }
same "a name is found" "Address: 10.1.2.17" "$(ask some.name | grep -o 'Address: 10.*')"
same "the container's own server at port 53 does not mind" 1 "$("$hull" exec c1 netstat -lnt | grep -c ':53 ')"
same "over TCP" "10 1 2 6" "$("$hull" exec c1 sh -c 'nc -w 5 127.0.0.11 53 </question | tail -c 4 | od -An -tu1' | xargs)"
for i in {1..40}; do ask "name$i" | grep -c 10.1.2.17 & done >"$work/answers"
wait $(jobs -p | grep -vx "$resolver")
same "many questions at once" 40 "$(grep -c 1 "$work/answers")"
"$hull" delete --force c1
kill "$resolver"
start c1 "$(inside a)"
same "without a resolver there is none" "" "$("$hull" exec c1 netstat -lnu | grep 127.0.0.11)"
"$hull" delete --force c1
same "nothing is left" "" "$(leftovers)"

# --- many at once -----------------------------------------------------------------------------------------------------
for i in {1..10}; do
	namespace "n$i" $((100 + i))
done
pids=()
for i in {1..10}; do
	start "n$i" "$(inside "n$i")" "ping -c 2 -w 60 10.9.0.$((100 + i % 10 + 1)) >/dev/null && touch /tmp/answered-$i; sleep 100000" &
	pids+=($!)
done
wait "${pids[@]}"
for i in {1..10}; do
	[ "$i" = 10 ] || soon "container $i reaches its neighbour" "$hull" exec "n$i" test -e "/tmp/answered-$i" || break
	reaches "10.9.0.$((100 + i))" >/dev/null || not_ok "container $i answers"
done
ok "ten at once reach each other and the host"
for i in {1..10}; do
	"$hull" delete --force "n$i" &
done
wait
same "nothing is left of them" "" "$(leftovers; for i in {1..10}; do tc -n "n$i" qdisc | grep ingress; ip -n "n$i" -o link | grep hull; done)"

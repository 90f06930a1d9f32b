#!/bin/bash
# Network cards that are put into running machines, booted and forked, and taken out again, by hull-vmm alone: what the guest
# makes of them, traffic in both directions through a tap, and a guest that misuses its card.
. "$(dirname "$0")/lib.sh"
build=$repository/build
rootfs_busybox "$work/rootfs"
cp "$build/tests/net_peer" "$build/tests/net_hostile" "$work/rootfs/bin/"
# On tmpfs, as templates are.
files=$work/files
mkdir -p "$files" && mount -t tmpfs -o mode=755 none "$files"
mkfifo "$work/lines" "$work/answers"
"$build/tests/snapshot_host" "${HULL_VMM:-$build/bin/hull-vmm}" "${HULL_FSD:-$build/bin/hull-fsd}" "${HULL_KERNEL:-$build/share/hull/vmlinux}" \
	"${HULL_INITRAMFS:-$build/share/hull/initramfs}" "$work/rootfs" "$files" <"$work/lines" >"$work/answers" &
exec 5>"$work/lines" 6<"$work/answers"
ask() { # LINE: sends it and prints the answer
	printf '%s\n' "$1" >&5
	local answer
	IFS= read -r -t 120 answer <&6 || answer="no answer within 120 s"
	printf '%s\n' "$answer"
}
answers() { # DESCRIPTION PATTERN LINE
	local answer
	answer=$(ask "$3")
	if grep -q -E -- "$2" <<<"$answer"; then ok "$1"; else not_ok "$1" "$answer
$(tail -n 5 "$files"/*.log 2>&1)"; fi
}

# The container of a machine is the guest itself: its network, /sys, every capability. It is a shell that reads its commands.
"$hull" spec -b "$work" >/dev/null 2>&1 || (cd "$work" && "$hull" spec)
capabilities=$(capsh --print 2>/dev/null | sed -n 's/^Bounding set *=//p' | tr , '\n' | tr '[:lower:]' '[:upper:]' | jq -Rnc '[inputs | select(. != "")]')
create() { # the order that makes the container `a`
	jq -c --argjson all "$capabilities" '.process.terminal = false | .process.args = ["sh"]
		| .process.capabilities = {bounding: $all, effective: $all, permitted: $all}
		| .linux.namespaces |= map(select(.type != "network" and .type != "pid")) | .linux.maskedPaths = [] | .linux.readonlyPaths = []
		| (.mounts[] | select(.type == "sysfs") | .options) -= ["ro"]
		| {order:"create", id:"a", machine:true, time:"@NOW@", spec:., rootfs:{export:"rootfs"}, mounts:{}, stdio:{stdin:1040, stdout:1041, stderr:1042}}' \
		"$work/config.json" | sed 's/"@NOW@"/@NOW@/'
}
runs() { # NAME
	answers "$1: the container is made" '"ok": ?true' "time $1 $(create)"
	answers "$1: and runs" '"ok": ?true' "order $1 {\"order\":\"start\",\"id\":\"a\"}"
}
turn=0
inside() { # NAME COMMAND: prints its output; its status
	local out=$files/$1.out size
	turn=$((turn + 1))
	size=$(stat -c %s "$out")
	printf "(%s\n) </dev/null 2>&1; printf '\\n@@%s %%d\\n' \$?\n" "$2" "$turn" >"$files/$1.in"
	wait_for grep -q "^@@$turn " "$out" || return 99
	tail -c +$((size + 1)) "$out" | grep -v '^@@'
	return "$(sed -n "s/^@@$turn //p" "$out")"
}
# The turn is counted in this shell, so no $(inside ...) of it.
does() { # DESCRIPTION NAME COMMAND
	if inside "$2" "$3" >"$work/output"; then ok "$1"; else not_ok "$1" "$(cat "$work/output")
$(tail -n 5 "$files/$2.log")"; fi
}

mac=02:00:0a:09:00:02
address_of() { printf '0000:00:%02x.0' "$1"; }
plug() { # DESCRIPTION NAME TAP MTU: sets slot
	local answer
	answer=$(ask "net $2 $3 $mac $4")
	slot=${answer#slot }
	if [[ $answer == slot\ * ]]; then ok "$1"; else not_ok "$1" "$answer
$(tail -n 5 "$files/$2.log")"; fi
}
host_side() { # TAP MTU
	ip link set "$1" mtu "$2" up && ip addr add 10.9.0.1/24 dev "$1"
}
# Whatever its name is: the interface of the card in the slot.
guest_side="interface=\$(ls /sys/bus/pci/devices/@SLOT@/virtio*/net) &&
	ip link set \$interface up && ip addr add 10.9.0.2/24 dev \$interface"
comes_up() { # NAME SLOT TAP MTU
	does "$1: the guest finds it" "$1" "echo 1 >/sys/bus/pci/rescan && ls -d /sys/bus/pci/devices/$(address_of "$2")/virtio*/net/*"
	host_side "$3" "$4"
	does "$1: and brings it up" "$1" "${guest_side//@SLOT@/$(address_of "$2")}"
}
goes() { # NAME SLOT
	inside "$1" "echo 1 >/sys/bus/pci/devices/$(address_of "$2")/remove" >/dev/null
}
packets() { cat "/sys/class/net/$1/statistics/$2"; }
traffic() { # NAME TAP MTU
	local before after most=$((50 * 1048576 / $3 * 7 / 8)) # of less than two segments each there are more
	does "$1: ping" "$1" "ping -c 3 -i 0.2 -W 10 10.9.0.1"
	does "$1: ping of large packets" "$1" "ping -c 2 -i 0.2 -W 10 -s 20000 10.9.0.1"
	before=$(packets "$2" tx_packets)
	does "$1: 50 MiB from the host" "$1" "net_peer get 10.9.0.1 5001 50"
	after=$(packets "$2" tx_packets)
	check "$1: in segments larger than a packet ($((after - before)))" test $((after - before)) -lt "$most"
	before=$(packets "$2" rx_packets)
	does "$1: 50 MiB to the host" "$1" "net_peer put 10.9.0.1 5001 50"
	after=$(packets "$2" rx_packets)
	check "$1: in segments larger than a packet ($((after - before)))" test $((after - before)) -lt "$most"
}
"$build/tests/net_peer" serve 5001 &
server=$!

# --- machines, booted and forked ------------------------------------------------------------------------------------------
memory=268435456
answers "a machine boots" ok "boot booted 1 $memory"
answers "its agent answers" 'does not exist' 'order booted {"order":"state","id":"a"}'
answers "it is saved, and goes on" '^ok$' "save booted template"
answers "a clone of it" ok "restore forked 1 $memory template"
plug "a network card for a machine that is idle" booted tap0 0
answers "a machine with a network card is not saved" 'error Device or resource busy' "save booted other"
check "the log says why" grep -q 'net: added to the running machine' "$files/booted.log"
answers "without the card" '^ok$' "unplug booted $slot"
answers "it is saved again" '^ok$' "save booted other"
runs booted
runs forked

for name in booted forked; do
	plug "$name: a network card" "$name" "tap-$name" 1500
	comes_up "$name" "$slot" "tap-$name" 1500
	does "$name: its address and MTU" "$name" "grep -qx $mac /sys/bus/pci/devices/$(address_of "$slot")/virtio*/net/*/address &&
		grep -qx 1500 /sys/bus/pci/devices/$(address_of "$slot")/virtio*/net/*/mtu"
	traffic "$name" "tap-$name" 1500
	answers "$name: there is no card in another slot" 'error No such file' "unplug $name 30"
	answers "$name: nor is the bridge one" 'error No such file' "unplug $name 0"
	goes "$name" "$slot"
	answers "$name: the card goes" '^ok$' "unplug $name $slot"
	check "$name: and the tap with it" test ! -e "/sys/class/net/tap-$name"
	answers "$name: once" 'error No such file' "unplug $name $slot"

	plug "$name: a network card for large packets" "$name" "tap-$name" 9000
	comes_up "$name" "$slot" "tap-$name" 9000
	does "$name: ping of large packets in one" "$name" "ping -c 2 -i 0.2 -W 10 -s 8900 10.9.0.1"
	traffic "$name" "tap-$name" 9000
	goes "$name" "$slot"
	answers "$name: the card goes" '^ok$' "unplug $name $slot"
done

# --- coming and going -----------------------------------------------------------------------------------------------------
vmm=$(pgrep -x hull-vmm | tail -n 1)
descriptors=$(ls "/proc/$vmm/fd" | wc -l)
good=0
for i in $(seq 20); do
	slot=$(ask "net forked tap-again $mac 1500")
	slot=${slot#slot }
	inside forked "echo 1 >/sys/bus/pci/rescan" >/dev/null
	host_side tap-again 1500
	inside forked "${guest_side//@SLOT@/$(address_of "$slot")} && ping -c 1 -W 10 10.9.0.1" >"$work/output" && good=$((good + 1))
	goes forked "$slot"
	[ "$(ask "unplug forked $slot")" = ok ] || good=-1
done
same "a card comes and goes 20 times" 20 "$good"
# What the guest has open of its root file system is among them, and is let go of some time later.
as_before() { [ "$(ls "/proc/$vmm/fd" | wc -l)" -le "$descriptors" ]; }
soon "the VMM has no descriptor more than before" as_before && ok "the VMM has no descriptor more than before"
added=0
while [[ $(ask "net forked tap-many$added $mac 1500") == slot\ * ]]; do added=$((added + 1)); done
check "as many cards as there are slots ($added)" test "$added" -ge 20
answers "one more is refused" 'error No space left' "net forked tap-more $mac 1500"
does "the guest sees them all" forked "echo 1 >/sys/bus/pci/rescan && test \$(ls -d /sys/bus/pci/devices/*/virtio*/net/* | wc -l) = $added"
for slot in $(seq 31 -1 1); do [ "$(ask "unplug forked $slot")" != ok ] || added=$((added - 1)); done
same "all go, without the guest's consent" 0 "$added"
does "the guest goes on" forked "echo alive"
answers "another address is needed" 'error Invalid argument' "net booted tap0 01:00:00:00:00:01 1500"
answers "another MTU is needed" 'error Invalid argument' "net booted tap0 $mac 67"

# --- a card that is pulled out, and one without a wire ----------------------------------------------------------------------
plug "a card for a guest that uses it" booted tap-pulled 1500
comes_up booted "$slot" tap-pulled 1500
does "it sends without end" booted "(while :; do net_peer put 10.9.0.1 5001 50; done) >/dev/null 2>&1 & echo started"
sleep 2
answers "the card is pulled out" '^ok$' "unplug booted $slot"
answers "the machine's agent still answers" '"status"' 'order booted {"order":"state","id":"a"}'
answers "booted is ended" ok "kill booted"

# --- a guest that misuses it ------------------------------------------------------------------------------------------------
answers "another clone" ok "restore hostile 1 $memory template"
runs hostile
plug "a network card" hostile tap-hostile 1500
comes_up hostile "$slot" tap-hostile 1500
busybox ping -q -i 0.05 -s 1400 10.9.0.2 >/dev/null 2>&1 &
pinger=$!
before=$(packets tap-hostile rx_packets)
said=$(dmesg | wc -l)
does "a bad driver has the card for a while" hostile "net_hostile $(address_of "$slot") 20"
sed 's/^/# /' "$work/output"
check "some of its frames were good enough for the host ($(($(packets tap-hostile rx_packets) - before)))" \
	test "$(packets tap-hostile rx_packets)" -gt "$before"
kill "$pinger"
does "the kernel has it again" hostile "${guest_side//@SLOT@/$(address_of "$slot")} && ping -c 3 -W 10 10.9.0.1"
says_nothing() { ! dmesg | tail -n +$((said + 1)) | grep -E 'Call Trace|BUG:|WARNING:|gso|skb'; }
check "the host's kernel has nothing to say about it" says_nothing
plug "another card for the same machine" hostile tap-second 1500
answers "which is taken out unseen" '^ok$' "unplug hostile $slot"

kill "$server"
exec 5>&-
wait_for sh -c '! pgrep -x hull-vmm'
umount "$files"

#!/bin/bash
# make demo: runs a container with a Debian root file system in a micro-VM and shows that its kernel is not the host's.
# On this machine's own KVM where that can run a guest, else in the emulated KVM host (tests/machine).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/.." && pwd)
build=$(cd "$repository" && realpath "${BUILD:-build}")
hull=$build/bin/hull
cache=${HULL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hull}/demo
image=$cache/debian-bookworm.tar
bundle=$build/demo

say() { printf '\n== %s\n' "$*"; }

# The Debian root file system, once a machine.
make_image() {
	local new
	[ -f "$image" ] && return
	say "making a Debian root file system with mmdebstrap (once; about a minute)"
	mkdir -p "$cache"
	new=$(mktemp -d "$cache/.new.XXXXXX")
	if ! mmdebstrap --quiet --variant=minbase bookworm "$new/image.tar"; then
		rm -rf "$new"
		echo "demo: mmdebstrap failed; it needs Debian's mirror" >&2
		return 1
	fi
	mv "$new/image.tar" "$image"
	rmdir "$new"
}

make_bundle() {
	rm -rf "$bundle"
	mkdir -p "$bundle/rootfs"
	tar -C "$bundle/rootfs" --numeric-owner -xf "$image"
	(cd "$bundle" && "$hull" spec)
	# shellcheck disable=SC2016 # for the container's shell
	jq '.process.terminal = false | .hostname = "hull-demo" | .process.args = ["/bin/sh", "-c", $script]' --arg script \
		'uname -a; echo; cat /etc/os-release; echo; id' "$bundle/config.json" >"$bundle/config.json.new"
	mv "$bundle/config.json.new" "$bundle/config.json"
}

# Where the host is, real or emulated: its kernel, then the container's.
run_container() {
	local host container
	host=$(uname -r)
	say "the host's kernel: $(uname -a)"
	say "hull run: uname -a; cat /etc/os-release; id"
	"$hull" run --bundle "$bundle" "demo-$$" </dev/null | tee "${TMPDIR:-/tmp}/hull-demo.$$"
	container=$(awk 'NR == 1 { print $3 }' "${TMPDIR:-/tmp}/hull-demo.$$")
	rm -f "${TMPDIR:-/tmp}/hull-demo.$$"
	[ -n "$container" ] && [ "$container" != "$host" ] || {
		say "the container's kernel ($container) should not be the host's ($host)"
		return 1
	}
	say "the container ran on its own kernel, $container; the host's is $host"
}

if [ "${1:-}" = --run ]; then
	run_container
	exit
fi
[ "$(id -u)" -eq 0 ] || {
	echo "demo: needs root: a root file system has files of many owners" >&2
	exit 1
}
make_image
make_bundle
if why=$(timeout 60 "$hull" doctor 2>&1); then
	say "this machine's own KVM runs guests: using it"
	run_container
else
	say "this machine cannot run micro-VMs itself: using the emulated KVM host (tests/machine)"
	sed 's/^/   hull doctor: /' <<<"$why"
	exec "$here/machine/run" --timeout 300 -- env BUILD="$build" "$here/demo.sh" --run
fi

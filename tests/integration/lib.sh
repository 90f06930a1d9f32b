# Sourced by each integration test, inside the emulated host: results, root file systems, bundles.
#
#   ok DESCRIPTION, not_ok DESCRIPTION [DETAIL]     print one result
#   check DESCRIPTION COMMAND...                    ok when the command succeeds
#   same DESCRIPTION EXPECTED ACTUAL                ok when the two strings are equal
#   says DESCRIPTION STATUS PATTERN COMMAND...      ok when it fails with this status (any: but 0) and one line that matches
#   wait_for COMMAND...                             repeat the command until it succeeds, at most WAIT_SECONDS
#   soon DESCRIPTION COMMAND...                     the same; if it never does, that is not ok
#   has_ended PID                                   whether no process of the host has this number any more, or a dead one
#   rootfs_busybox DIR, rootfs_debian DIR, rootfs_musl DIR, rootfs_workloads DIR    make a root file system
#   bundle DIR ROOTFS ARG...                        make a bundle that runs ARG..., not in a terminal
#   edit BUNDLE JQ-EXPRESSION                       change its config.json
#   leftovers                                       print what containers have left on this host: nothing, if all is well

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
hull=${HULL:-$repository/build/bin/hull}
work=${HULL_TEST_WORK:-/scratch/$(basename "$0" .sh).$$}
mkdir -p "$work"

ok() { echo "ok $*"; }
not_ok() {
	echo "not ok $1"
	[ -z "${2-}" ] || printf '%s\n' "$2" | head -n 40 | sed 's/^/#   /'
}
check() {
	local description=$1 output
	shift
	if output=$("$@" 2>&1); then ok "$description"; else not_ok "$description" "$output"; fi
}
same() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	elif [ "$(wc -l <<<"$2")" -gt 15 ]; then
		not_ok "$1" "$(diff -U 1 --label expected --label actual <(echo "$2") <(echo "$3"))"
	else
		not_ok "$1" "expected: $2
actual:   $3"
	fi
}
says() {
	local description=$1 status=$2 pattern=$3 output actual
	shift 3
	output=$("$@" 2>&1 >/dev/null </dev/null)
	actual=$?
	[ "$status" != any ] || [ "$actual" = 0 ] || status=$actual
	if [ "$actual" = "$status" ] && [ "$(wc -l <<<"$output")" = 1 ] && grep -q -- "$pattern" <<<"$output"; then
		ok "$description"
	else
		not_ok "$description" "status $actual: $output"
	fi
}
# How long something may take that happens at once on an idle host: an emulated one may have little of its machine's time.
# Only a failure takes that long.
WAIT_SECONDS=180
wait_for() {
	local end=$((SECONDS + WAIT_SECONDS))
	while ! "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}
soon() {
	local description=$1
	shift
	wait_for "$@" || { not_ok "$description" "it did not happen within $WAIT_SECONDS s"; return 1; }
}
# A dead process keeps its number until its parent has asked for its status, which is not hull's business.
has_ended() { ! grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

rootfs_busybox() {
	mkdir -p "$1"/{bin,sbin,usr/bin,usr/sbin,etc,proc,sys,dev,tmp,root,var,run}
	chmod 1777 "$1/tmp"
	cp /bin/busybox "$1/bin/busybox"
	"$1/bin/busybox" --list | while read -r applet; do
		[ "$applet" = busybox ] || ln -sf busybox "$1/bin/$applet"
	done
	echo 'root:x:0:0:root:/root:/bin/sh' >"$1/etc/passwd"
	echo 'root:x:0:' >"$1/etc/group"
}

# The image is read-only and shared by all tests; each root file system is an overlay over it, as an engine makes them.
rootfs_debian() {
	rootfs_image "$1" "${HULL_TEST_DEBIAN:?}" /run/hull-test-debian
}
rootfs_workloads() {
	rootfs_image "$1" "${HULL_TEST_WORKLOADS:?}" /run/hull-test-workloads
}
rootfs_image() { # DIR IMAGE WHERE-IT-IS-MOUNTED
	local lower=$3
	if [ ! -d "$lower/etc" ]; then
		mkdir -p "$lower"
		mount -o loop,ro,noload "$2" "$lower"
	fi
	mkdir -p "$1" "$1.upper" "$1.work"
	mount -t overlay overlay -o "lowerdir=$lower,upperdir=$1.upper,workdir=$1.work" "$1"
}

# A dynamically linked program with musl's loader and C library, and nothing else.
rootfs_musl() {
	mkdir -p "$1"/{bin,lib,proc,sys,dev,tmp,etc}
	cp "$repository/build/tests/musl_program" "$1/bin/program"
	cp -L /lib/ld-musl-x86_64.so.1 "$1/lib/ld-musl-x86_64.so.1"
}

bundle() {
	local directory=$1 rootfs=$2 args
	shift 2
	mkdir -p "$directory"
	args=$(jq -nc '$ARGS.positional' --args -- "$@")
	rm -f "$directory/config.json"
	(cd "$directory" && "$hull" spec) || return 1
	edit "$directory" ".process.terminal=false | .root.path=\"$rootfs\" | .root.readonly=false | .process.args=$args"
}

edit() {
	jq "$2" "$1/config.json" >"$1/config.json.new" && mv "$1/config.json.new" "$1/config.json"
}

no_template_is_made() { ! pgrep -x hull-template; }

leftovers() {
	local pid
	# Somebody who makes a template in the background has a machine of his own for a while.
	wait_for no_template_is_made
	# One by one: pgrep finds nothing by a pattern of more than 15 characters. Zombies are their parents' business.
	for pid in $(for name in hull hull-vmm hull-oom hull-fsd hull-proxy hull-relay hull-net; do pgrep -x -r D,R,S,T "$name"; done); do
		echo "process $pid $(tr '\0' ' ' <"/proc/$pid/cmdline")"
	done
	find /run/hull -mindepth 1 2>/dev/null | sed 's/^/file /'
	grep -E 'hull-fsd|/run/hull/' /proc/mounts | sed 's/^/mount /'
	find /sys/fs/cgroup -type d -name '*hull*' 2>/dev/null | sed 's/^/cgroup /'
	grep -E 'hull' /proc/net/unix | sed 's/^/socket /'
	return 0
}

#!/bin/bash
# Runs integration tests (those of `make check`, or those named) inside the emulated KVM host, one boot for all of them. Prints each result and ends
# with "N passed, N failed". Exit status 0 when none failed.
#
#   tests/integration/run.sh [NAME...]       NAME as in tests/integration/NAME.sh, or `long` for those that take long
set -u
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)

# Which tests there are, in the order they run, each with its time limit in seconds: an emulated host under load is slow.
# The first list is what `make check` runs; the second takes long and comes with `make check-long` (argument "long").
core=(
	"boot 300"
	"kernel 300"
	"devices 400"
	"agent 600"
	"snapshot 600"
	"lifecycle 900"
	"exec 900"
	"terminal 900"
	"pause 600"
	"files 600"
	"disks 600"
	"sockets 600"
	"compare 900"
	"spec_linux 900"
	"spec_mounts 900"
	"spec_systemd 600"
	"hostcgroup 600"
	"oom 400"
	"clock 400"
	"update 300"
	"badinput 600"
	"jail 300"
)
long=(
	"sandbox 900"
	"spec_seccomp 900"
	"spec_namespaces 600"
	"hooks 600"
	"verbs 600"
	"replay 900"
	"fsops 1200"
	"streams 1800"
	"debian 1800"
	"workloads 1800"
	"crash 1800"
	"exec_many 1800"
	"many 3000"
)

inside() {
	local entry name limit log began passed=0 failed=0
	local chosen=("${core[@]}")
	log=$(mktemp)
	[ $# -eq 0 ] || chosen=("${core[@]}" "${long[@]}")
	for entry in "${chosen[@]}"; do
		read -r name limit <<<"$entry"
		[ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || { [[ " ${long[*]} " == *" $entry "* ]] && [ "$1" = long ]; } || continue
		[ -f "$here/$name.sh" ] || continue
		echo "# $name"
		began=$SECONDS
		timeout --kill-after=10 "$limit" bash "$here/$name.sh" >"$log.out" 2>"$log.err" </dev/null
		local status=$?
		grep -E '^(ok|not ok|#)' "$log.out"
		passed=$((passed + $(grep -c '^ok ' "$log.out")))
		failed=$((failed + $(grep -c '^not ok ' "$log.out")))
		if [ "$status" -ne 0 ] || ! grep -q '^ok ' "$log.out"; then
			echo "not ok $name ran to its end (status $status)"
			tail -n 20 "$log.err" | sed 's/^/#   /'
			failed=$((failed + 1))
		fi
		echo "# $name took $((SECONDS - began)) s"
	done
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ]
}

if [ "${HULL_TEST_INSIDE:-}" = 1 ]; then
	inside "$@"
	exit
fi
HULL_TEST_DEBIAN=$("$repository/tests/fixtures.sh") || exit 1
case " $* " in *" long "* | *" workloads "*) HULL_TEST_WORKLOADS=$("$repository/tests/fixtures.sh" workloads) || exit 1 ;; esac
export HULL_TEST_DEBIAN HULL_TEST_WORKLOADS HULL_TEST_INSIDE=1
exec "$repository/tests/machine/run" --mem 8192 --disk 8 --timeout 12000 -- bash "$here/run.sh" "$@"

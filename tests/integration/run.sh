#!/bin/bash
# Runs integration tests (all, or those named) inside the emulated KVM host, one boot for all of them. Prints each result and ends
# with "N passed, N failed". Exit status 0 when none failed.
#
#   tests/integration/run.sh [NAME...]       NAME as in tests/integration/NAME.sh
set -u
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)

# Which tests there are, in the order they run. A test has a time limit in seconds: an emulated host under load is slow.
all=(
	"boot 300"
	"kernel 300"
	"devices 400"
	"lifecycle 900"
	"streams 1200"
	"files 600"
	"fsops 900"
	"compare 900"
	"debian 1500"
	"badinput 600"
	"jail 300"
	"crash 1200"
	"many 1800"
)

inside() {
	local entry name limit log passed=0 failed=0
	log=$(mktemp)
	for entry in "${all[@]}"; do
		read -r name limit <<<"$entry"
		[ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
		[ -f "$here/$name.sh" ] || continue
		echo "# $name"
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
	done
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ]
}

if [ "${HULL_TEST_INSIDE:-}" = 1 ]; then
	inside "$@"
	exit
fi
HULL_TEST_DEBIAN=$("$repository/tests/fixtures.sh") || exit 1
export HULL_TEST_DEBIAN HULL_TEST_INSIDE=1
exec "$repository/tests/machine/run" --mem 8192 --disk 8 --timeout 3600 -- bash "$here/run.sh" "$@"

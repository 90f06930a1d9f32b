#!/bin/bash
# Runs integration tests (those of `make check`, or those named) inside the emulated KVM host. Prints each result and ends
# with "N passed, N failed". Exit status 0 when none failed.
#
#   tests/integration/run.sh [NAME...]       NAME as in tests/integration/NAME.sh, or `long` for those that take long
set -u
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)

# Containers start in machines that are forked from a template, made before the first test; those of NAME@cold boot, as
# all would without one.
#
# Which tests there are, in the order they run, each with its time limit in seconds, which is for what hangs: an
# emulated host under load may be five times as slow as an idle one.
# The first list is what `make check` runs; the second takes long and comes with `make check-long` (argument "long").
core=(
	"boot 900"
	"kernel 900"
	"devices 900"
	"agent 1500"
	"lifecycle 1800"
	"exec 1800"
	"terminal 1800"
	"pause 1500"
	"files 1500"
	"disks 1500"
	"sockets 1500"
	"compare 1800"
	"spec_linux 1800"
	"spec_mounts 1800"
	"spec_systemd 1500"
	"hostcgroup 1500"
	"oom 900"
	"clock 900"
	"update 900"
	"verbs 1500"
	"badinput 1500"
	"jail 900"
	"template 1500"
	"boot@cold 900"
)
long=(
	"notify 600"
	"network 1800"
	"snapshot 1500"
	"net_device 1800"
	"preserve 1500"
	"sandbox 3000"
	"pods 1800"
	"spec_seccomp 1800"
	"spec_namespaces 1500"
	"shared_namespaces 1500"
	"hooks 1800"
	"replay 1800"
	"runtime_tools 3000"
	"statuses 1800"
	"fsops 1800"
	"streams 1800"
	"debian 1800"
	"workloads 3000"
	"crash 1800"
	"exec_many 1800"
	"many 3000"
	"clones 3000"
)

use_templates() { # manual|off
	mkdir -p /etc/hull
	echo "{\"template\":\"$1\"}" >/etc/hull/config.json
}

inside() { # NAME...
	local entry name limit log began passed=0 failed=0
	log=$(mktemp)
	use_templates manual
	"$repository/build/bin/hull" template create >/dev/null || echo "# no template could be made"
	for entry in "${core[@]}" "${long[@]}"; do
		read -r name limit <<<"$entry"
		[[ " $* " == *" $name "* ]] || continue
		began=$SECONDS
		[[ $name != *@cold ]] || use_templates off
		timeout --kill-after=10 "$limit" bash "$here/${name%@cold}.sh" >"$log.out" 2>"$log.err" </dev/null
		local status=$?
		use_templates manual
		echo "# $name took $((SECONDS - began)) s"
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

# An emulated host keeps hardly more than one CPU busy: where there are two, and memory for it, two hosts share the work.
share() { # ENTRY...: prints the names for each host, a line each, such that both have about as much time to use
	local entry name limit first="" second="" left=0
	for entry; do
		read -r name limit <<<"$entry"
		if [ "$left" -le 0 ]; then
			first+=" $name" left=$((left + limit))
		else
			second+=" $name" left=$((left - limit))
		fi
	done
	printf '%s\n%s\n' "$first" "$second"
}

emulated() { # NAME...
	"$repository/tests/machine/run" --mem 8192 --disk 8 --timeout 12000 -- bash "$here/run.sh" "$@" </dev/null
}

shared() { # ENTRY...
	local names logs passed failed
	logs=$(mktemp -d)
	while read -r names; do
		# shellcheck disable=SC2086
		{ emulated $names || echo "# an emulated host ended with status $?"; } | tee "$logs/${names%% *}" |
			grep --line-buffered -v '^[0-9]* passed, [0-9]* failed$' &
	done < <(share "$@")
	wait
	passed=$(cat "$logs"/* | grep -c '^ok ')
	failed=$(cat "$logs"/* | grep -c '^not ok ')
	# A host that came to its end has said how many passed.
	[ "$(cat "$logs"/* | grep -cE '^[0-9]+ passed, [0-9]+ failed$')" = 2 ] || {
		echo "not ok both emulated hosts ran to their ends"
		failed=$((failed + 1))
	}
	rm -rf "$logs"
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ]
}

if [ "${HULL_TEST_INSIDE:-}" = 1 ]; then
	inside "$@"
	exit
fi

names_of() { # ENTRY...
	printf '%s\n' "$@" | cut -d ' ' -f 1
}

for name in "$@"; do
	[ "$name" = long ] || [ -f "$here/${name%@cold}.sh" ] || {
		echo "run.sh: there is no test $name" >&2
		exit 2
	}
done
HULL_TEST_DEBIAN=$("$repository/tests/fixtures.sh") || exit 1
case " $* " in *" long "* | *" workloads "*) HULL_TEST_WORKLOADS=$("$repository/tests/fixtures.sh" workloads) || exit 1 ;; esac
case " $* " in *" long "* | *" runtime_tools "*) HULL_TEST_RUNTIME_TOOLS=$("$repository/tests/runtime_tools.sh") || exit 1 ;; esac
export HULL_TEST_DEBIAN HULL_TEST_WORKLOADS HULL_TEST_RUNTIME_TOOLS HULL_TEST_INSIDE=1
case ${1:-core} in
core) entries=("${core[@]}") ;;
long) entries=("${long[@]}") ;;
*)
	emulated "$@"
	exit
	;;
esac
memory=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
if [ "$(nproc)" -gt 1 ] && [ "$memory" -ge 18 ]; then
	shared "${entries[@]}"
else
	# shellcheck disable=SC2046
	emulated $(names_of "${entries[@]}")
fi

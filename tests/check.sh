#!/bin/bash
# Runs every test and ends with the line "N passed, N failed". Called by `make check`, which has built everything.
# Each test below counts as one; FUZZ_SECONDS is how long each fuzz target runs (default: 30 for what a guest can reach
# from its side of the wall, 10 for the others).
set -u
cd "$(dirname "$0")/.."
build=${BUILD:-build}
passed=0 failed=0
logs=$build/tests/logs
mkdir -p "$logs"

count() { # PASSED FAILED
	passed=$((passed + $1)) failed=$((failed + $2))
}

unit_tests() {
	local test log
	for test in "$build"/tests/unit/*; do
		[ -x "$test" ] && [ -f "$test" ] || continue
		log=$logs/$(basename "$test").log
		timeout 300 "$test" >"$log" 2>&1
		local status=$? good
		good=$(grep -c '^\[       OK \]' "$log")
		if [ "$status" -eq 0 ] && [ "$good" -gt 0 ]; then
			echo "ok unit $(basename "$test"): $good tests"
			count "$good" 0
		else
			echo "not ok unit $(basename "$test") (status $status)"
			tail -n 30 "$log" | sed 's/^/#   /'
			count "$good" 1
		fi
	done
}

fuzz_seconds() { # NAME
	local default=10
	case $1 in
	vmm_queue | vmm_blk | vmm_net | vmm_vsock | vmm_fs | vmm_pci | fsd_request | agent_protocol | runtime_agent) default=30 ;;
	esac
	echo "${FUZZ_SECONDS:-$default}"
}

fuzz_one() { # TARGET
	local name seconds
	name=$(basename "$1")
	seconds=$(fuzz_seconds "$name")
	mkdir -p "$build/tests/corpus/$name"
	timeout $((seconds + 120)) "$1" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
		-artifact_prefix="$logs/" "$build/tests/corpus/$name" >"$logs/fuzz_$name.log" 2>&1
	echo $? >"$logs/fuzz_$name.status"
}

fuzz_targets() {
	local target name executed
	export -f fuzz_one fuzz_seconds
	export build logs
	find "$build/tests/fuzz" -maxdepth 1 -type f -perm -u+x | sort | xargs -r -P 2 -I{} bash -c 'fuzz_one {}'
	for target in "$build"/tests/fuzz/*; do
		[ -x "$target" ] && [ -f "$target" ] || continue
		name=$(basename "$target")
		executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/fuzz_$name.log")
		if [ "$(cat "$logs/fuzz_$name.status")" = 0 ] && [ "${executed:-0}" -gt 0 ]; then
			echo "ok fuzz $name: $executed inputs in $(fuzz_seconds "$name") s"
			count 1 0
		else
			echo "not ok fuzz $name"
			tail -n 30 "$logs/fuzz_$name.log" | sed 's/^/#   /'
			count 0 1
		fi
	done
}

# Runs a program that prints "ok ..." and "not ok ..." lines.
result_lines() { # NAME COMMAND...
	local name=$1 log=$logs/$1.log status good bad
	shift
	"$@" 2>&1 </dev/null | tee "$log" | grep --line-buffered -E '^(ok|not ok|#)'
	status=${PIPESTATUS[0]}
	good=$(grep -c '^ok ' "$log")
	bad=$(grep -c '^not ok ' "$log")
	if [ "$bad" -eq 0 ] && { [ "$status" -ne 0 ] || [ "$good" -eq 0 ]; }; then
		echo "not ok $name ran to its end (status $status)"
		tail -n 20 "$log" | sed 's/^/#   /'
		bad=1
	fi
	count "$good" "$bad"
}

case ${1:-all} in
all)
	unit_tests
	result_lines machine tests/machine/selftest.sh
	result_lines integration tests/integration/run.sh
	fuzz_targets
	;;
fuzz) fuzz_targets ;;
long) result_lines integration tests/integration/run.sh long ;;
*)
	echo "usage: tests/check.sh [all|fuzz|long]" >&2
	exit 2
	;;
esac
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

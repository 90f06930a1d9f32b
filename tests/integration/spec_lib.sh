# Sourced by the spec_*.sh tests after lib.sh: bundles that run under runc and under hull.
#
#   new_bundle SCRIPT        $work/b runs SCRIPT (text for sh) in a busybox root file system that has /probe
#   both NAME                the bundle under both: exit status, stdout and stderr must be the same
#   both_fail NAME WORDS     both refuse the bundle; hull's message has WORDS in it
#   refuses NAME WORDS       hull refuses it with these words; runc is not asked
#   both_exec NAME PROCESS   the bundle is started under both, and PROCESS (the JSON of a process) in it; as both
#   hull_says NAME EXPECTED  under hull alone: its output must be EXPECTED (for what must differ from runc; say why)

rootfs_busybox "$work/rootfs"
cp "$repository/build/tests/spec_probe" "$work/rootfs/probe"
b=$work/b

namespaces='.linux.namespaces = [{type:"pid"},{type:"network"},{type:"ipc"},{type:"uts"},{type:"mount"},{type:"cgroup"}]'
all_capabilities='.process.capabilities = {bounding:$all, effective:$all, permitted:$all, inheritable:[], ambient:[]}'

new_bundle() {
	bundle "$b" "$work/rootfs" sh -c "$1"
	edit "$b" "$namespaces"
}

normalize() { cat; }

spec_runs=0
both() {
	local expected difference stream
	spec_runs=$((spec_runs + 1))
	runc run -b "$b" "runc-spec-$spec_runs" >"$work/runc.out" 2>"$work/runc.err" </dev/null
	expected=$?
	[ $# -lt 2 ] || "${@:2}" # what has to be put back between the two
	"$hull" run -b "$b" "hull-spec-$spec_runs" >"$work/hull.out" 2>"$work/hull.err" </dev/null
	same "$1: exit status" "$expected" $?
	for stream in out err; do
		normalize <"$work/runc.$stream" >"$work/runc.$stream.n"
		normalize <"$work/hull.$stream" >"$work/hull.$stream.n"
		if difference=$(diff -a -U1 "$work/runc.$stream.n" "$work/hull.$stream.n"); then
			ok "$1: std$stream as runc's ($(wc -l <"$work/hull.$stream.n") lines)"
		else
			not_ok "$1: std$stream as runc's" "$difference"
		fi
	done
}

refuses() {
	local output
	spec_runs=$((spec_runs + 1))
	if output=$("$hull" run -b "$b" "hull-spec-$spec_runs" 2>&1 </dev/null); then
		not_ok "$1: hull refuses it" "$output"
	elif sed 's/\\"/"/g' <<<"$output" | grep -q -F -- "$2"; then
		ok "$1: $2"
	else
		not_ok "$1: $2" "$output"
	fi
}

both_fail() {
	local output
	spec_runs=$((spec_runs + 1))
	if output=$(runc run -b "$b" "runc-spec-$spec_runs" 2>&1 </dev/null); then
		not_ok "$1: runc refuses it" "$output"
	else
		ok "$1: runc refuses it"
	fi
	refuses "$@"
}

hull_says() {
	spec_runs=$((spec_runs + 1))
	same "$1" "$2" "$("$hull" run -b "$b" "hull-spec-$spec_runs" 2>&1 </dev/null)"
}

# Prints what the further process prints, its exit status, and what it says on stderr.
exec_under() { # RUNTIME ID PROCESS
	echo "$3" >"$work/process.json"
	"$1" create -b "$b" "$2" </dev/null >/dev/null 2>&1 && "$1" start "$2" &&
		"$1" exec --process "$work/process.json" "$2" </dev/null 2>"$work/process.err"
	echo "status $?"
	cat "$work/process.err" # apart: runc copies the two streams by a thread each
	"$1" kill "$2" KILL >/dev/null 2>&1
	"$1" delete --force "$2" >/dev/null 2>&1
}

both_exec() {
	local difference
	spec_runs=$((spec_runs + 1))
	exec_under runc "runc-spec-$spec_runs" "$2" | normalize >"$work/runc.out"
	exec_under "$hull" "hull-spec-$spec_runs" "$2" | normalize >"$work/hull.out"
	if difference=$(diff -a -U1 "$work/runc.out" "$work/hull.out"); then
		ok "$1: as under runc ($(wc -l <"$work/hull.out") lines)"
	else
		not_ok "$1: as under runc" "$difference"
	fi
}

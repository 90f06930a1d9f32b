#!/bin/bash
# The validation programs of opencontainers/runtime-tools with runc, crun and hull: what a program finds right with runc, it
# finds right with hull. Many findings are wrong with every runtime: programs that know of cgroup v1 only, or that are wrong
# themselves. They are counted, and their names given.
. "$(dirname "$0")/lib.sh"

programs=${HULL_TEST_RUNTIME_TOOLS:?}

# --- exceptions ---------------------------------------------------------------------------------------------------------
# PROGRAM%FINDING%REASON: what hull fails where runc or crun passes, and cannot be otherwise. FINDING is a pattern.
exceptions=(
	# They look at the namespaces of state's pid, which is hull-vmm (vmm/jail.c): the container's own are in the guest.
	"linux_ns_itype%inherit namespace @(cgroup|ipc|mnt|net|uts) without type%hull-vmm is jailed in namespaces of its own, whatever the container has"
	"linux_ns_nopath%create namespace @(pid|user) without path%hull-vmm stays in those of its caller, who watches its pid"
	"linux_ns_path%set * namespace by path%a process of the guest cannot be in a namespace of the host"
	# It looks for the name of the source in /proc/self/mountinfo.
	"mounts%mounts\\[*\\] (/mnt/etc-*) found*%a guest is not told where on the host a directory lies"
	"hooks_stdin%*\"prestart\" hook*%as with runc the status is \"creating\": the specification has the hook run while create does"
)

# --- the place where they run -----------------------------------------------------------------------------------------
# They expect runtimetest and an archive of a root file system in their directory, and a runtime by its name.
mkdir -p "$work/here" "$work/bin" "$work/tmp"
export TMPDIR=$work/tmp
rootfs_busybox "$work/rootfs"
tar -C "$work/rootfs" -czf "$work/here/rootfs-amd64.tar.gz" .
cp "$programs/runtimetest" "$work/here/"
ln -s "$hull" "$work/bin/hull"
PATH=$work/bin:$PATH

# One program with one runtime: its findings, one a line, in $work/NAME.RUNTIME: "ok FINDING" or "not ok FINDING". A program
# that says nothing is judged by its exit status. What is skipped is no finding.
findings() { # NAME RUNTIME
	local file=$work/$1.$2 status
	(cd "$work/here" && RUNTIME=$2 timeout --kill-after=5 240 "$programs/$1" >"$file.out" 2>"$file.err" </dev/null)
	status=$?
	{
		# Their numbers differ where one runtime gives more findings than another; the names of bundles and containers always.
		sed -n -E 's/^((not )?ok) [0-9]+( - |$)/\1 /p' "$file.out" | grep -v -i '# skip' |
			sed -E 's/ocitest[0-9]+/BUNDLE/g; s/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/ID/g; s/[0-9]{4,}/NUMBER/g'
		if [ "$status" = 0 ]; then echo "ok it ends well"; else echo "not ok it ends well"; fi
	} | LC_ALL=C sort >"$file"
}

# What hull gets right less often than runc, or than crun: "RUNTIME FINDING" a line.
behind() { # NAME
	awk '/^ok / { finding = substr($0, 4); right[side, finding]++ }
		/^not ok / { finding = substr($0, 8) }
		{ known[finding] }
		END {
			for (finding in known)
				if (right["hull", finding] < right["runc", finding]) print "runc " finding
				else if (right["hull", finding] < right["crun", finding]) print "crun " finding
		}' side=runc "$work/$1.runc" side=crun "$work/$1.crun" side=hull "$work/$1.hull" | LC_ALL=C sort
}

excepted() { # NAME FINDING: prints the reason
	local program finding reason
	for exception in "${exceptions[@]}"; do
		IFS='%' read -r program finding reason <<<"$exception"
		# shellcheck disable=SC2053
		[[ $1 = $program && $2 = $finding ]] && echo "$reason" && return 0
	done
	return 1
}

said() { # NAME: the end of what hull said, where findings fail
	grep -h -v '^TAP' "$work/$1.hull.err" | tail -n 8
	grep -A 12 '^not ok' "$work/$1.hull.out" | head -n 40
}

judge() { # NAME
	local name=$1 finding other reason worse=0
	while read -r other finding; do
		if reason=$(excepted "$name" "$finding"); then
			echo "# $name: $finding: passes with $other, excepted: $reason"
			continue
		fi
		[ "$worse" = 1 ] || said "$name" | sed 's/^/#   /'
		not_ok "runtime-tools $name: $finding: passes with $other"
		worse=1
	done < <(behind "$name")
	sed -n "s/^not ok /# $name: wrong with hull: /p" "$work/$name.hull"
	[ "$worse" = 1 ] || ok "runtime-tools $name: $(grep -c '^ok ' "$work/$name.hull") findings right"
}

for program in "$programs"/*; do
	name=${program##*/}
	[ "$name" != runtimetest ] || continue
	[ -z "${HULL_TEST_RUNTIME_TOOLS_ONLY-}" ] || [[ " $HULL_TEST_RUNTIME_TOOLS_ONLY " = *" $name "* ]] || continue
	# They wait more than they work: runc and crun go together, where they do not use the same cgroup. hull has the CPUs to
	# itself, since the programs give a container ten seconds to end.
	findings "$name" runc &
	[[ $name != linux_cgroups_* ]] || wait
	findings "$name" crun &
	wait
	findings "$name" hull
	judge "$name"
done
for runtime in runc crun hull; do
	echo "# $runtime: $(cat "$work"/*."$runtime" | grep -c '^ok ') right, $(cat "$work"/*."$runtime" | grep -c '^not ok ') wrong"
done
same "nothing is left of hull" "" "$(leftovers)"

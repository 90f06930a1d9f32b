#!/bin/bash
# linux.seccomp under runc and under hull: what blocked calls give, what the process sees, how it ends.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/spec_lib.sh"

architectures='architectures: ["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"]'
user_1000='.process.user = {uid:1000, gid:1000}'

# The calls: mkdir 83, rmdir 84, getpid 39, personality 135, mknod 133, chmod 90, uname 63, sync 162; for 32 bits mkdir 39, getuid32 199.
calls='
status() { grep -E "^(NoNewPrivs|Seccomp)" /proc/self/status; }
status
for call in "83 0 0" "84 0 0" 135 "135 8" "135 0xffffffff" "133 0 0 0" 162 "0x40000000+83" 100000 449 441 0x40000027; do
	/probe call $(echo "$call" | sed "s/0x40000000+83/0x40000053/")
done
for call in 39 199 445 10000; do /probe call32 $call; done
/probe call 57 >/dev/null && echo fork works'

rules='[{names:["mkdir"], action:"SCMP_ACT_ERRNO"}, {names:["rmdir","no_such_call"], action:"SCMP_ACT_ERRNO", errnoRet:7},
	{names:["personality"], action:"SCMP_ACT_ERRNO", errnoRet:11, args:[{index:0, value:8, op:"SCMP_CMP_EQ"}]},
	{names:["mknod"], action:"SCMP_ACT_TRACE"}, {names:["sync"], action:"SCMP_ACT_LOG"}]'
for privileges in true false; do
	new_bundle "$calls"
	edit "$b" ".linux.seccomp = {defaultAction:\"SCMP_ACT_ALLOW\", $architectures, syscalls:$rules} | .process.noNewPrivileges = $privileges"
	both "some calls denied, no_new_privs $privileges"
	edit "$b" "$user_1000"
	both "the same for a user, no_new_privs $privileges"
done

# A list of what is allowed, as engines have it: newer calls are ENOSYS, others the default.
for sample in docker-20.10 podman-4.3; do
	file=$repository/tests/integration/profiles/$sample.json
	for privileges in true false; do
		new_bundle "$calls"
		edit "$b" ".linux.seccomp = $(cat "$file") | .process.noNewPrivileges = $privileges"
		both "the profile of $sample, no_new_privs $privileges"
	done
done
edit "$b" "$user_1000 | .linux.seccomp.defaultErrnoRet = 13"
both "the profile of podman with another errno, for a user"

# Architectures that the profile does not name.
new_bundle '/probe call 39 >/dev/null; /probe call32 199; echo "status $?"; /probe call 0x40000027; echo "status $?"'
edit "$b" '.linux.seccomp = {defaultAction:"SCMP_ACT_ALLOW", architectures:["SCMP_ARCH_X86_64"], syscalls:[]}'
both "architectures that are not named"

for action in KILL KILL_THREAD KILL_PROCESS TRAP; do
	new_bundle 'exec /probe call 83 0 0'
	edit "$b" ".linux.seccomp = {defaultAction:\"SCMP_ACT_ALLOW\", $architectures, syscalls:[{names:[\"mkdir\"], action:\"SCMP_ACT_$action\"}]}"
	both "the first process meets $action"
done

new_bundle 'echo not seen'
edit "$b" ".linux.seccomp = {defaultAction:\"SCMP_ACT_ALLOW\", $architectures, syscalls:[{names:[\"execve\"], action:\"SCMP_ACT_ERRNO\"}]}"
both_fail "execve is not allowed" "operation not permitted"
new_bundle 'grep Seccomp: /proc/self/status'
edit "$b" '.linux.seccomp = {architectures:["SCMP_ARCH_X86"]}'
both "a profile that says nothing"
edit "$b" '.linux.seccomp = {defaultAction:"SCMP_ACT_NONE"}'
both_fail "an unknown action" "string SCMP_ACT_NONE is not a valid action for seccomp"
edit "$b" '.linux.seccomp = {defaultAction:"SCMP_ACT_ALLOW", architectures:["SCMP_ARCH_Z80"]}'
both_fail "an unknown architecture" "string SCMP_ARCH_Z80 is not a valid arch for seccomp"
edit "$b" '.linux.seccomp = {defaultAction:"SCMP_ACT_ALLOW", syscalls:[{names:["dup"], action:"SCMP_ACT_ERRNO", args:[{index:0, value:1, op:"EQ"}]}]}'
both_fail "an unknown operator" "string EQ is not a valid operator for seccomp"
edit "$b" '.linux.seccomp = {defaultAction:"SCMP_ACT_ALLOW", listenerPath:"/run/l", syscalls:[{names:["dup"], action:"SCMP_ACT_NOTIFY"}]}'
refuses "a listener" "linux.seccomp.listenerPath is not supported: a listener is a process of the host"
edit "$b" 'del(.linux.seccomp.listenerPath)'
refuses "an action for a listener" "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY is not supported"
# runc 1.1 refuses all flags.
edit "$b" '.linux.seccomp = {defaultAction:"SCMP_ACT_ALLOW", flags:["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_SPEC_ALLOW","SECCOMP_FILTER_FLAG_TSYNC"]}'
hull_says "flags" "Seccomp:	2"
same "nothing is left" "" "$(leftovers)"

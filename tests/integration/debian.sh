#!/bin/bash
# A real distribution at work: packages unpacked and configured, and Python's own tests of what a system gives a program, with the
# results that runc gives.
. "$(dirname "$0")/lib.sh"
rootfs_debian "$work/rootfs"
capabilities='.process.capabilities |= map_values(["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FSETID","CAP_FOWNER","CAP_MKNOD","CAP_SETGID","CAP_SETUID","CAP_SETFCAP","CAP_SETPCAP","CAP_NET_BIND_SERVICE","CAP_SYS_CHROOT","CAP_KILL","CAP_AUDIT_WRITE"])
	| .process.rlimits = [{"type":"RLIMIT_NOFILE","hard":4096,"soft":4096}]
	| .process.env += ["HOME=/root","LC_ALL=C.UTF-8"]'

inside() { # ID SHELL-COMMAND
	bundle "$work/$1" "$work/rootfs" /bin/sh -c "$2"
	edit "$work/$1" "$capabilities"
	"$hull" run --bundle "$work/$1" "$1" </dev/null
}

output=$(inside dpkg 'dpkg -i /packages/hello.deb && hello && dpkg -s hello | grep ^Status' 2>&1)
same "dpkg -i" "Status: install ok installed" "$(tail -n 1 <<<"$output")"
check "what it installed runs" grep -q 'Hello, world!' <<<"$output"
same "the host sees the installed file" "755" "$(stat -c %a "$work/rootfs/usr/bin/hello")"
output=$(inside apt 'apt-get -y remove hello >/dev/null && ! [ -e /usr/bin/hello ] && apt-get -y install /packages/hello.deb && hello && apt-get check && dpkg --audit && dpkg --verify hello' 2>&1)
check "apt-get remove, install from a file, check" grep -q 'Hello, world!' <<<"$output"
check "apt-get configured it" grep -q 'Setting up hello' <<<"$output"

# The results by test name, without times: "test_x (test.test_os.Y.test_x) ... ok"
results() { grep -oE '^test_.* \.\.\. .*|^(FAILED|OK|Ran [0-9]+).*' | sed -E 's/ in [0-9.]+s$//; s/skipped .*/skipped/' | sort; }
# asyncio would put its complaints about a slow host in the middle of the results.
python='cd /tmp && python3 -W ignore -c "import logging, unittest
logging.getLogger(\"asyncio\").setLevel(logging.ERROR)
unittest.main(module=None, verbosity=2)" test.test_os test.test_posix test.test_shutil test.test_mmap 2>&1'
inside python "$python" >"$work/python.hull" 2>&1
bundle "$work/runc" "$work/rootfs" /bin/sh -c "$python"
edit "$work/runc" "$capabilities"
(cd "$work/runc" && runc run python-runc </dev/null) >"$work/python.runc" 2>&1
results <"$work/python.hull" >"$work/results.hull"
results <"$work/python.runc" >"$work/results.runc"
check "Python's tests ran" test "$(grep -c ' ok$' "$work/results.hull")" -ge 300
echo "# $(grep '^Ran' "$work/results.hull"), $(grep -c ' ok$' "$work/results.hull") ok; under runc: $(grep '^Ran' "$work/results.runc"), $(grep -c ' ok$' "$work/results.runc") ok"
same "Python's tests of os, posix, shutil and mmap give what they give under runc" "" \
	"$(diff "$work/results.runc" "$work/results.hull")"
same "nothing is left" "" "$(leftovers)"
umount "$work/rootfs"

#!/bin/bash
# One case of file work, inside a container or a virtual machine: writes to RESULT the nanoseconds that it took. Run by
# tests/bench/files_inside.sh.
#
#   files_guest.sh CASE DIRECTORY RESULT
set -u
directory=$2
cd "$directory" || exit 1
export HOME=/ GIT_OPTIONAL_LOCKS=0

random_or_sequential() { # fio's name for it, block size, bytes
	fio --name=bench --filename=big --ioengine=psync --invalidate=0 --size=16M --rw="$1" --bs="$2" --io_size="$3" \
		--randseed=1 --fallocate=none --end_fsync=1 --output=/dev/null
}

case_nothing() { :; }
case_tar() { mkdir -p out && tar -xf tree.tar -C out; }
# shellcheck disable=SC2038 # as people write it; the names are harmless
case_stat() { find tree | xargs stat >/dev/null; }
case_git() { git -C repository status >/dev/null; }
case_sqlite() {
	rm -f bench.db
	{
		echo 'CREATE TABLE entries(number INTEGER PRIMARY KEY, words TEXT);'
		for ((i = 0; i < 20; i++)); do echo "INSERT INTO entries(words) VALUES('some words of entry $i');"; done
	} | sqlite3 bench.db
}
case_read() { random_or_sequential read 1M 16M; }
case_write() { random_or_sequential write 1M 16M; }
case_randread() { random_or_sequential randread 4k 4M; }
case_randwrite() { random_or_sequential randwrite 4k 4M; }

# The programs are read before the clock runs.
case $1 in
tar) programs=(tar mkdir) ;;
stat) programs=(find xargs stat) ;;
git) programs=(git) ;;
sqlite) programs=(sqlite3 rm) ;;
nothing) programs=() ;;
*) programs=(fio) ;;
esac
for program in "${programs[@]}"; do "$program" --version >/dev/null || exit 1; done
began=${EPOCHREALTIME/./}
"case_$1" || exit 1
ended=${EPOCHREALTIME/./}
echo $(((ended - began) * 1000)) >"$3"

#!/bin/bash
# Programs that people run in containers, each at its own work: a database that is killed in the middle, a web server, version
# control, a compiler; and what a limit is for.
. "$(dirname "$0")/lib.sh"
rootfs_workloads "$work/rootfs"
mkdir -p "$work/data"
usual='.process.capabilities |= map_values(["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FSETID","CAP_FOWNER","CAP_SETGID","CAP_SETUID","CAP_SETPCAP","CAP_NET_BIND_SERVICE","CAP_SYS_CHROOT","CAP_KILL"])
	| .process.rlimits = [{"type":"RLIMIT_NOFILE","hard":4096,"soft":4096}] | .process.env += ["HOME=/root","LC_ALL=C.UTF-8"]
	| .annotations = {"hull.vcpus":"2","hull.memory":"1G"}'

prepare() { # ID SHELL-COMMAND
	bundle "$work/$1" "$work/rootfs" /bin/sh -c "$2"
	edit "$work/$1" "$usual"
}
inside() { # ID SHELL-COMMAND: its output, then its status
	prepare "$1" "$2"
	"$hull" run --bundle "$work/$1" "$1" </dev/null 2>&1
	echo "status $?"
}

# --- PostgreSQL: its files on a bind mount, killed while it writes, then recovered -----------------------------------
database='export PATH=$PATH:/usr/lib/postgresql/15/bin PGDATA=/data/pg PGHOST=/tmp PGUSER=postgres
postgres() { su postgres -c "PATH=$PATH; $*"; }
start() { postgres "pg_ctl -D $PGDATA -w -t 600 -l /data/log -o \"-k /tmp -c listen_addresses= -c shared_buffers=16MB -c max_connections=10 -c autovacuum=off\" start" >/dev/null; }
'
volume=".mounts += [{destination:\"/data\",type:\"bind\",source:\"$work/data\",options:[\"rbind\",\"rw\"]}]"
prepare load "$database"'chown postgres /data && postgres "initdb --no-sync -A trust -D $PGDATA" >/dev/null && start || exit 1
psql -q -c "create table t(i int primary key, v text)"
echo loaded; i=0
while psql -q -c "insert into t select g, repeat(md5(g::text), 8) from generate_series($((i*1000)), $((i*1000+999))) g"; do i=$((i+1)); echo $i >/data/committed; done'
edit "$work/load" "$volume"
"$hull" run --bundle "$work/load" load >"$work/load.out" 2>&1 </dev/null &
for _ in $(seq 1200); do
	[ "$(cat "$work/data/committed" 2>/dev/null || echo 0)" -ge 5 ] && break
	sleep 0.5
done
check "PostgreSQL: initdb and a load" grep -q loaded "$work/load.out"
"$hull" kill load KILL
wait
committed=$(cat "$work/data/committed")
prepare recover "$database"'start && psql -At -c "select count(*) >= '"$committed"'000, count(*) % 1000, sum(length(v)) = count(*) * 256 from t" &&
	psql -q -c "reindex table t" -c "vacuum full t" && postgres "pg_ctl -D $PGDATA -w stop" >/dev/null; cat /data/log'
edit "$work/recover" "$volume"
"$hull" run --bundle "$work/recover" recover >"$work/recover.out" 2>&1 </dev/null
same "PostgreSQL: what was committed is there after kill -9, and whole transactions only" "t|0|t" "$(grep -x "[tf]|[0-9]*|[tf]" "$work/recover.out")"
check "PostgreSQL: it had to recover" grep -q 'automatic recovery in progress' "$work/recover.out"
check "PostgreSQL: it shut down in order" grep -q 'database system is shut down' "$work/recover.out"

# --- nginx -------------------------------------------------------------------------------------------------------
same "nginx serves on loopback: 50 files of 1 MiB" "50 same
status 0" "$(inside nginx 'head -c 1048576 /dev/urandom >/var/www/html/file && nginx || exit 1
	n=0; for i in $(seq 50); do curl -sf http://127.0.0.1/file | cmp - /var/www/html/file && n=$((n+1)); done; echo $n same; nginx -s quit 2>/dev/null')"

# --- heavy work on files -----------------------------------------------------------------------------------------
same "sqlite: inserts, a rollback, a journal of either kind" "ok 20000
wal 30000
status 0" "$(inside sqlite 'cd /root && rm -f a.db && seq 1 20000 | sed "s/.*/insert into t values(&, hex(randomblob(50)));/" >in.sql &&
	{ echo "create table t(i integer primary key, v); begin;"; cat in.sql; echo "commit; begin; delete from t; rollback;"; } | sqlite3 a.db &&
	echo "$(sqlite3 a.db "pragma integrity_check") $(sqlite3 a.db "select count(*) from t")" &&
	mode=$(sqlite3 a.db "pragma journal_mode=wal") &&
	sqlite3 a.db "insert into t select i+20000, v from t where i<=10000; pragma wal_checkpoint" >/dev/null &&
	echo "$mode $(sqlite3 a.db "select count(*) from t")"')"
same "git: 2,000 files, commits, gc, clone, fsck" "2000 clean
status 0" "$(inside git 'cd /root && rm -rf r c && git init -q r && cd r && git config user.email a@b && git config user.name c &&
	mkdir $(seq -f d%g 0 49) && for i in $(seq 2000); do echo "file $i" >d$((i%50))/f$i; done && git add . && git commit -qm one &&
	sed -i s/file/line/ d1/* && git commit -qam two && git gc -q && git fsck --strict 2>/dev/null && cd .. && git clone -q r c && cd c &&
	echo "$(git ls-files | wc -l) $([ -z "$(git status --porcelain)" ] && echo clean)"')"
same "gcc and make: 30 files, two at a time" "built 30
status 0" "$(inside gcc 'rm -rf /root/p && mkdir /root/p && cd /root/p && for i in $(seq 30); do
	{ for k in $(seq 20); do echo "int f${i}_$k(int x) { int s = $k; for (int i = 0; i < x; i++) s = s * 31 + i % (s | 1); return s; }"; done; } >f$i.c; done
	{ for i in $(seq 30); do echo "int f${i}_1(int);"; done; echo "#include <stdio.h>"; echo "int main(void) { int n = 0;"
	  for i in $(seq 30); do echo "n += f${i}_1(0);"; done; echo "printf(\"built %d\", n); puts(\"\"); return 0; }"; } >main.c
	printf "all: prog\nprog: \$(patsubst %%.c,%%.o,\$(wildcard *.c))\n\tgcc -o \$@ \$^\n" >Makefile && make -s -j2 CFLAGS=-O1 && ./prog')"

# --- limits: under runc and under hull, beside a container that goes on ---------------------------------------------------
rootfs_busybox "$work/busybox"
bundle "$work/other" "$work/busybox" sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/next && mv /tmp/next /tmp/alive; sleep 0.2; done'
"$hull" run --detach --bundle "$work/other" other </dev/null >/dev/null 2>&1
goes_on() {
	local before
	before=$(cat "$work/busybox/tmp/alive")
	wait_for eval '[ "$(cat "$work/busybox/tmp/alive")" -gt '"$((before + 3))"' ]'
}
wait_for test -s "$work/busybox/tmp/alive"

processes() { "$runtime" events --stats bomb | jq .data.pids.current; }
prepare bomb 'exec perl -e "\$SIG{CHLD} = q(IGNORE); if (!fork) { while (1) { fork } } sleep 1 while 1"'
edit "$work/bomb" '.linux.resources.pids.limit=64'
for runtime in runc "$hull"; do
	name=$(basename "$runtime")
	"$runtime" run --detach --bundle "$work/bomb" bomb </dev/null >"$work/bomb.out" 2>&1
	check "$name: a fork bomb comes up to its pids limit" wait_for eval '[ "$(processes)" -ge 64 ]'
	same "$name: and stays there" "64 64 64" "$(processes) $(processes) $(processes)"
	check "$name: another container goes on beside it" goes_on
	"$runtime" kill bomb KILL
	check "$name: it can be killed" wait_for eval '[ "$("$runtime" state bomb | jq -r .status)" = stopped ]'
	check "$name: and deleted" "$runtime" delete bomb
done
bundle "$work/hog" "$work/busybox" sh -c 'dd if=/dev/zero of=/dev/null bs=200M count=1; echo "dd: $?"; grep -w oom_kill /sys/fs/cgroup/memory.events'
edit "$work/hog" '.linux.resources.memory={limit:67108864, swap:67108864}'
for runtime in runc "$hull"; do
	same "$(basename "$runtime"): a memory hog is killed by its limit, and counted" "dd: 137
oom_kill 1" "$("$runtime" run --bundle "$work/hog" hog 2>/dev/null </dev/null)"
done
check "the other container goes on" goes_on
"$hull" delete --force other
same "nothing is left" "" "$(leftovers)"
umount "$work/rootfs"

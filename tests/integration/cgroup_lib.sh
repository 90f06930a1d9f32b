# Sourced after lib.sh by tests that look at the host's cgroup of a container: one that waits for SIGTERM, its place in
# the hierarchy by the process of its pid file ($work/ID.pid), and what a file of container c's cgroup holds.

top=/sys/fs/cgroup
sleeper='trap "exit 0" TERM; while :; do sleep 0.1; done'
new() { bundle "$work/b" "$work/rootfs" sh -c "$sleeper"; }
place() { sed -n 's/^0:://p' "/proc/$(cat "$work/$1.pid")/cgroup"; }
value() { cat "$top$(place c)/$1"; }

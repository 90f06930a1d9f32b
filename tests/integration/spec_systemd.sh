#!/bin/bash
# systemd as the container's first process, with the mounts and the capabilities that podman gives it (--systemd=always), under
# runc and under hull: it reaches multi-user.target, delegates control groups, and ends with the status that it is told.
. "$(dirname "$0")/lib.sh"

rootfs_debian "$work/rootfs"
units=$work/rootfs/etc/systemd/system
mkdir -p "$units/multi-user.target.wants"
ln -sf /lib/systemd/system/multi-user.target "$units/default.target"
# On a slow host nothing is to be given up.
mkdir -p "$work/rootfs/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultTimeoutStartSec=900\nDefaultTimeoutStopSec=900\n' >"$work/rootfs/etc/systemd/system.conf.d/slow.conf"
# DefaultDependencies: otherwise the target would wait for what waits for it.
cat >"$units/report.service" <<'END'
[Unit]
Description=Reports what the test wants to know, and ends
DefaultDependencies=no
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/report
END
ln -sf ../report.service "$units/multi-user.target.wants/report.service"
cat >"$units/limited.service" <<'END'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'cat /proc/self/cgroup /sys/fs/cgroup/system.slice/limited.service/memory.max /sys/fs/cgroup/system.slice/limited.service/pids.max'
StandardOutput=file:/limited
MemoryMax=20M
TasksMax=33
END
cat >"$work/rootfs/report" <<'END'
#!/bin/bash
exec >/result 2>&1
echo "multi-user: $(systemctl is-active multi-user.target)"
echo "failed: $(systemctl --failed --no-legend --plain | awk '{ print $1 }' | paste -sd ' ')"
echo "virtualization: $(systemd-detect-virt --container)"
echo "process 1: $(sed 's/.*\(init.scope\)/\1/' /proc/1/cgroup)"
systemctl start limited.service
echo "limited: $(paste -sd ' ' /limited)"
echo "slices: $(ls -d /sys/fs/cgroup/*.slice /sys/fs/cgroup/*.scope | paste -sd ' ')"
echo "the namespace's limits: $(echo 1 2>&1 >/sys/fs/cgroup/pids.max | sed 's/.*: //')"
journalctl --sync
echo "journal: $(journalctl -b -u limited.service --no-pager 2>/dev/null | grep -c 'limited.service')"
systemctl --no-block exit 7
END
chmod 755 "$work/rootfs/report"

bundle "$work/b" "$work/rootfs" /lib/systemd/systemd
capabilities='["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_FSETID","CAP_KILL","CAP_NET_BIND_SERVICE","CAP_SETFCAP","CAP_SETGID","CAP_SETPCAP","CAP_SETUID","CAP_SYS_CHROOT"]'
edit "$work/b" ".process.env += [\"container=podman\"] | .process.noNewPrivileges = false | .process.capabilities = {bounding:$capabilities, effective:$capabilities, permitted:$capabilities}
	| .process.rlimits = [] | .hostname = \"sys\" | .annotations = {\"hull.memory\":\"512M\"} | .linux.resources.pids = {limit:2048}
	| .linux.seccomp = $(cat "$repository/tests/integration/profiles/podman-4.3.json")
	| .linux.namespaces = [{type:\"pid\"},{type:\"network\"},{type:\"ipc\"},{type:\"uts\"},{type:\"mount\"},{type:\"cgroup\"}]
	| .mounts |= map(select(.type != \"cgroup\")) | .mounts += [{destination:\"/sys/fs/cgroup\", type:\"cgroup\", source:\"cgroup\", options:[\"rprivate\",\"nosuid\",\"noexec\",\"nodev\",\"relatime\",\"rw\"]}]
	+ ([\"/run\", \"/run/lock\", \"/tmp\", \"/var/log/journal\"] | map({destination:., type:\"tmpfs\", source:\"tmpfs\", options:[\"rw\",\"rprivate\",\"nosuid\",\"nodev\",\"tmpcopyup\"]}))"

for runtime in runc "$hull"; do
	rm -f "$work/rootfs/result" "$work/rootfs/limited"
	timeout 900 "$runtime" run -b "$work/b" "systemd-$$" >"$work/out.$(basename "$runtime")" 2>&1 </dev/null
	echo "status: $?" >"$work/result.$(basename "$runtime")"
	cat "$work/rootfs/result" >>"$work/result.$(basename "$runtime")"
done
check "under runc it reaches its target" grep -q 'multi-user: active' "$work/result.runc"
if difference=$(diff "$work/result.runc" "$work/result.hull"); then
	ok "systemd finds under hull what it finds under runc ($(wc -l <"$work/result.hull") lines)"
else
	not_ok "systemd finds under hull what it finds under runc" "$difference
$(tail -n 30 "$work/out.hull")"
fi
same "it ends with the status that it is told" "status: 7" "$(head -n 1 "$work/result.hull")"
umount "$work/rootfs"
same "nothing is left" "" "$(leftovers)"

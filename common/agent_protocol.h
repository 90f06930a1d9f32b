/*
 * What travels between the host and the agent in the guest, all of it over vsock streams.
 *
 * Control: the agent listens on AGENT_PORT; `hull` connects through the VMM. A message is a 32-bit little-endian length
 * followed by that many bytes of JSON (one object, UTF-8). The host sends an order, the agent answers it with one
 * message, and the next order may follow. A bad message (length 0 or above AGENT_MESSAGE_MAX, not an object) ends the
 * connection. Several connections may be open at a time.
 *
 *   order   {"order": NAME, ...}
 *   answer  {"ok": true, ...}  or  {"ok": false, "error": TEXT, "code": ERRNO}
 *
 *   create  {"order":"create", "id": ID, "time": NANOSECONDS, "spec": <config.json as it is>,
 *            "rootfs": {"export": NAME, "options": [TEXT...]},
 *            "mounts": {"INDEX": {"export": NAME, "options": [TEXT...]}},
 *            "stdio": {"stdin": PORT|null, "stdout": PORT|null, "stderr": PORT|null},
 *            "bundle": PATH, "seccomp": {"filter": HEX, "flags": N}}
 *
 *           Makes the container up to the point where its process waits for start; an executable that does not exist is
 *           an error here. rootfs names the export that is the root file system; mounts, for each of spec.mounts that
 * is a bind mount of the host, the export that serves it. A null port means /dev/null; stdout and stderr with one port
 * are one stream. The answer holds "pid", the process id in the guest, and "warnings", an array of texts, when there
 * are any (capabilities that do not exist: the specification wants a warning, not a failure). options (may be absent):
 * what the host's mount that the export is on has set, by its names in "Linux mount options": nosuid, nodev, noexec,
 * ro, noatime, nodiratime, relatime. The guest's mount gets the same before the spec's options are applied.
 *
 *           time (may be absent) is the host's CLOCK_REALTIME when the order was sent: a guest that has no container
 * yet sets its clock by it. Its kernel reads the host's clock at boot, but then loses ticks until it has a clock
 *           source, up to half a second on a slow host; and a machine that was frozen has missed more. From then on the
 *           agent keeps the clock by asking for the time (AGENT_REPORT_TIME).
 *
 *           "seed" (may be absent): AGENT_SEED_SIZE random bytes of the host, in hexadecimal, for the random generator
 * of a guest that has no container yet. A machine that was forked has the same state in it as its siblings.
 *
 *           "trace": true (may be absent): the answer holds "trace", an array of [STEP, NANOSECONDS]: steps of the
 * work, and how long before the answer each was reached.
 *
 *           bundle is what the state that hooks find on their standard input says.
 *
 *           seccomp is spec.linux.seccomp compiled: 16 hexadecimal digits for each instruction of classic BPF (code 4,
 *           jt 2, jf 2, k 8), and SECCOMP_FILTER_FLAG_*; it must be there when the spec asks for a filter.
 *
 *           Further members, all of which may be absent: "machine": true, its end is the machine's: all others are
 *           killed then, and EXIT is reported. "lingers": true, with it: they are not, and EXIT with its status is
 *           reported when the last of them has ended as well. "reportOom": true: AGENT_REPORT_OOM. "notify": true: it
 * gets a NOTIFY_SOCKET. "tied": true, it is killed when the connection that this order came over ends. "namespaces":
 *           {"pid"|"network"|"ipc"|"uts"|"cgroup"|"user"|"time": ID|null}, which of its
 *           namespaces are those of another container, which must live; the spec's own list says the rest.
 *
 *           A socket of the host is {"socket": {"uid", "gid", "mode"}} in mounts, in the place of an export.
 *
 *           "writable": [PATH...] (may be absent) beside "export": what is mounted on the host at these places below
 *           it can be written to although the mount of the export itself is read-only.
 *
 *           "disks": [{"serial": TEXT, "rootfs": true | "mount": INDEX | "device": INDEX | "name": NAME}...], disks of
 * the machine (virtio-blk) by serial number: the root file system is on it (rootfs is absent then); it is the source of
 * spec.mounts[INDEX]; it is what spec.linux.devices[INDEX] and the rules about that mean; or it is to be the device
 * /dev/NAME.
 *
 *   start   {"order":"start", "id": ID}
 *           Runs the process; errors of execve come back here.
 *   kill    {"order":"kill", "id": ID, "signal": N, "all": BOOL}
 *   state   {"order":"state", "id": ID}
 *           Answer: "status": "created"|"running"|"stopped", "pid", and "exitStatus" when stopped.
 *   sockets {"order":"sockets", "id": ID, "connection": N, "port": P}
 *           Answered when a process of the container connects to one of its sockets of the host: "socket", the index in
 *           spec.mounts, and "connection", a number. The next such order says at which port the host's end is to be had
 *           (0: there is none); connection 0 says nothing. Refused with ESRCH when the container has ended.
 *
 *   notify  {"order":"notify", "id": ID}
 *           Answered when the container, which was created with "notify": true, has said READY= to the socket that its
 *           NOTIFY_SOCKET names (sd_notify(3)). Refused with ESRCH when it has none, or has ended.
 *
 *   delete  {"order":"delete", "id": ID, "force": BOOL}
 *   update  {"order":"update", "id": ID, "resources": <linux.resources>}
 *           Sets the limits of a container again: all that hold from now on, not only those that change.
 *   stats   {"order":"stats", "id": ID}
 *           Answer: "data", what the container uses, in the shape of the data of runc's `events --stats`; where there
 * is no limit, a real number. events  {"order":"events", "id": ID, "oomKills": N} Answered when the kernel has killed
 * more than N processes of the container for want of memory, or when the container has ended: "oomKills", how many, and
 * "ended". kernel-log {"order":"kernel-log", "id": ID, "from": N} Answer: "text", the lines of the guest kernel's log
 * from sequence number N on, as many as one answer holds, and "next", the number to go on from.
 *
 *   exec    {"order":"exec", "id": ID, "exec": NAME, "process": <a process.json>, "cgroup": PATH,
 *            "stdio": {"stdin": PORT|null, "stdout": PORT|null, "stderr": PORT|null}}
 *           Starts a further process in the container, under a name that it has not used yet. What the process leaves
 *           open (capabilities, rlimits, oomScoreAdj) is that of the container's own; so is the system call filter.
 *           cgroup (may be absent) is a path below the container's cgroup. Answered when the program has been executed,
 *           with "pid". The process belongs to this connection: when that ends, it is killed.
 *   wait    {"order":"wait", "id": ID, "exec": NAME}
 *           Answered when that process (without exec: the container's own) has ended and all its output has been
 *           written to its streams, with "exitStatus".
 *   resize  {"order":"resize", "id": ID, "exec": NAME, "width": COLUMNS, "height": ROWS}
 *           The window of the process's terminal.
 *
 *   pause   {"order":"pause", "id": ID}
 *   resume  {"order":"resume", "id": ID}
 *           Answered when all processes of the container stand still, or go on. Its state is "paused" in between.
 *   ps      {"order":"ps", "id": ID}
 *           Answer: "processes", an array of {"pid", "ppid" (as the container numbers them; 0: a parent outside of it),
 *           "uid" (as the guest has it), "cpu" (milliseconds used), "start" (milliseconds after 1970), "now" (the same,
 *           of this moment), "tty" ("pts/0" or ""), "command"...}; all of them are in guest-agent/processes.h.
 *
 *   network {"order":"network", "id": ID, "begin": BOOL, "links": [{"card": SLOT, "index": N, ...}...],
 *            "goneFacts": [FACT...], "goneCards": [SLOT...], "facts": [FACT...]}
 *           Gives the container's network namespace what that of the host has. links are all network cards that it is
 *           to have, by their slots on the PCI bus, and for each the number that the facts call its interface by; those
 *           that are new, or of which something has changed, with "name", "mac" (12 hexadecimal digits), "mtu", "up",
 *           "arp" and "ipv6" (BOOL) as well. A FACT is [KIND, HEX], KIND one of "address", "route", "neighbour",
 *           "rule", and HEX the bytes of an RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH or RTM_NEWRULE message of
 *           rtnetlink(7) behind its header. Interface 1 is the loopback interface. In this order: what is gone is taken
 *           away, new cards are found, links and facts are set. The container that has this network namespace from
 *           another one is none to be told. "begin" (may be absent): what the container has had so far is to go, which
 *           can be said of one that has ended, too; the
 *           answer then holds "dropped", the slots of such cards. A card that is gone has been let go of when the
 *           answer comes. "resolver" (may be absent): a port of the host where an engine's resolver can be asked, see
 *           AGENT_RESOLVER_ADDRESS.
 *
 * kill takes "exec" as well.
 *
 * Terminals: with process.terminal, in create and in exec, the process gets a terminal of the container's devpts. What
 * comes from stdio.stdin is typed there, what is written goes to stdio.stdout; both may be one port, a stream in both
 * directions, and then the end of the input hangs the terminal up as well. stdio.window (may be absent) is
 * {"width": COLUMNS, "height": ROWS}, and counts before process.consoleSize.
 *
 * Further descriptors: stdio.preserved (may be absent) is an array of {"port": PORT, "in": BOOL, "out": BOOL} or null
 * (/dev/null), for the descriptors from 3 on, in create and in exec: a pipe from the host (in) or to it (out), or for
 * both one socket. stdio.activating (may be absent), of create, says how many of them, the first, are to be announced
 * in the process's environment as LISTEN_FDS. They are streams as the three are, and delivered as those are before an
 * end is reported.
 *
 * File system: one virtio-fs device with the tag AGENT_FS_TAG; its root holds one entry for each export (a directory,
 * or a single file), by export name.
 *
 * Streams: for each stdio stream the agent connects from the guest to the host port that the order named. The stream
 * ends in either direction by shutdown.
 *
 * Report: as soon as it listens, the agent connects to the host port AGENT_REPORT_PORT and keeps that connection open.
 * It writes fixed-size struct agent_report messages, little-endian: READY once, then EXIT once when the process of the
 * container that stands for the machine has ended and all output of all containers has been written to the streams. On
 * EXIT the VMM delivers what it still holds for the streams and ends with that status. A report connection that closes
 * without EXIT is the machine's failure, not the container's status.
 */
#pragma once

#include <stdint.h>

#define AGENT_PORT 1024
#define AGENT_REPORT_PORT 1025
#define AGENT_STREAM_PORT_FIRST 1040 /* stdio streams are numbered from here */

#define AGENT_MESSAGE_MAX (8u << 20) /* bytes of JSON */
#define AGENT_SEED_SIZE 32	     /* bytes */
#define AGENT_FS_TAG "hull"

enum agent_report_kind {
	AGENT_REPORT_READY = 1, /* value: protocol version, AGENT_PROTOCOL_VERSION */
	AGENT_REPORT_EXIT = 2,	/* value: exit status 0 to 255; 128 + n for a process that signal n ended */
	AGENT_REPORT_TIME = 3,	/* asks for AGENT_NOTICE_TIME; after READY, one question at a time; value: 0 */
	/* The kernel has killed a process of the machine's container for want of memory; after READY, before EXIT, when
	 * "reportOom" was asked for. value: 0. */
	AGENT_REPORT_OOM = 4,
};

/* From the VMM to the agent, over the same connection, little-endian. */
struct agent_notice {
	uint32_t kind; /* enum agent_notice_kind */
	uint32_t port;
	uint32_t value;
};

enum agent_notice_kind {
	/* A terminal of the host has another window size: value has columns in the low half, rows in the high one. The
	 * process's terminal that the stream at `port` serves follows it, now or when it comes to be. */
	AGENT_NOTICE_WINDOW = 1,
	/* The host's CLOCK_REALTIME as this is sent, in nanoseconds: port has the low half, value the high one. */
	AGENT_NOTICE_TIME = 2,
	/* The host's clock was set, or jumped while the host slept. port and value are 0. */
	AGENT_NOTICE_CLOCK_SET = 3,
};

/* Docker's resolver listens on this address in the container's network namespace on the host. In the guest the agent
 * listens in its place, and asks over one stream to the port of the host that the order "network" named. On it go, in
 * both directions and little-endian, struct agent_resolver_frame, each followed by `size` bytes: a datagram to the
 * resolver, and its answer with the same tag; or the wish for a TCP connection to it (no bytes), answered by the port
 * of the host, 4 bytes, at which a stream to it is to be had (0: there is none). What is lost is lost, as with UDP. */
#define AGENT_RESOLVER_ADDRESS 0x7f00000bu /* 127.0.0.11 */
#define AGENT_RESOLVER_PORT 53

enum agent_resolver_kind {
	AGENT_RESOLVER_DATAGRAM = 1,
	AGENT_RESOLVER_CONNECTION = 2,
};

struct agent_resolver_frame {
	uint32_t tag;
	uint16_t kind; /* enum agent_resolver_kind */
	uint16_t size;
};

#define AGENT_PROTOCOL_VERSION 1

struct agent_report {
	uint32_t kind;
	uint32_t value;
};

#include "vmm/jail.h"

#include <errno.h>
#include <grp.h>
#include <linux/kvm.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "common/log.h"

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

/* Must: leave every namespace whose objects could be named without a path (interfaces, abstract sockets, IPC, host
 * name). Must not: leave the pid and user namespaces of a root caller: the engine watches this pid. */
static int enter_namespaces(bool privileged, bool *own_mounts, struct error *err)
{
	*own_mounts = true;
	if (unshare(privileged ? NAMESPACES : NAMESPACES | CLONE_NEWUSER) == 0)
		return 0;
	if (privileged)
		return error_set_errno(err, "jail: make namespaces");
	log_line("jail: no user namespace to be had, the root directory stays");
	*own_mounts = false;
	return 0;
}

/* Must: leave a root in which nothing exists and nothing can be made.
 * Must not: propagate any of its mounts to the host. */
static int empty_root(struct error *err)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_set_errno(err, "jail: make mounts private");
	/* Mounted over "/" itself: the one directory that exists on every host. It is reached through the new mount's
	 * position as the current directory, since this process's own root still lies below it. */
	if (mount("none", "/", "tmpfs", MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_RDONLY, "size=4k,nr_inodes=2,mode=555") <
	    0)
		return error_set_errno(err, "jail: mount an empty root");
	if (chdir("/..") < 0)
		return error_set_errno(err, "jail: enter the empty root");
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return error_set_errno(err, "jail: change to the empty root");
	/* Both roots are now stacked at "."; the upper one is the host's. */
	if (umount2(".", MNT_DETACH) < 0)
		return error_set_errno(err, "jail: leave the host's root");
	if (chdir("/") < 0)
		return error_set_errno(err, "jail: enter the new root");
	return 0;
}

/* Must: end with no identity that owns anything else on the host.
 * Must not: clear capabilities by the change of uid before the bounding set has been emptied (that needs CAP_SETPCAP).
 */
static int change_identity(const struct jail_options *options, struct error *err)
{
	for (cap_value_t cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap) < 0)
			return error_set_errno(err, "jail: drop capability %d from the bounding set", cap);
	if (setgroups(0, NULL) < 0)
		return error_set_errno(err, "jail: drop supplementary groups");
	if (setresgid(options->gid, options->gid, options->gid) < 0)
		return error_set_errno(err, "jail: become gid %u", options->gid);
	if (setresuid(options->uid, options->uid, options->uid) < 0)
		return error_set_errno(err, "jail: become uid %u", options->uid);
	return 0;
}

/* Must: leave every capability set of the process empty, for good. */
static int drop_privilege(struct error *err)
{
	cap_t none = cap_init();
	int failed;

	if (!none)
		return error_set_errno(err, "jail: allocate capabilities");
	failed = cap_set_proc(none);
	cap_free(none);
	if (failed)
		return error_set_errno(err, "jail: drop capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set_errno(err, "jail: set no_new_privs");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_set_errno(err, "jail: become undumpable");
	return 0;
}

static int limit_resources(struct error *err)
{
	static const struct rlimit nothing = {0, 0};

	if (setrlimit(RLIMIT_CORE, &nothing) < 0)
		return error_set_errno(err, "jail: forbid core files");
	return 0;
}

int jail_enter(const struct jail_options *options, struct error *err)
{
	bool own_mounts;

	if (enter_namespaces(options->change_identity, &own_mounts, err) < 0)
		return -1;
	if (own_mounts && empty_root(err) < 0)
		return -1;
	if (options->change_identity && change_identity(options, err) < 0)
		return -1;
	if (drop_privilege(err) < 0)
		return -1;
	return limit_resources(err);
}

#define SAVING (1u << JAIL_THREAD_SAVING)
#define LOOP (1u << JAIL_THREAD_LOOP | SAVING)
#define VCPU (1u << JAIL_THREAD_VCPU)
#define BOTH (LOOP | VCPU)

enum argument_check {
	ANY,
	EQUAL,	/* argument == value */
	MASKED, /* (argument & mask) == value */
};

/* One allowed system call, with at most one condition on one argument. The same call may appear several times. */
struct rule {
	int call;
	unsigned threads;
	enum argument_check check;
	unsigned argument;
	uint64_t value;
	uint64_t mask;
};

static const struct rule rules[] = {
    /* The first, since the hottest: a filter with conditions is walked at every call. */
    {SCMP_SYS(ioctl), VCPU, EQUAL, 1, KVM_RUN, 0},

    /* Interrupts are sent from either thread; doorbells follow a BAR that a vCPU moves. */
    {SCMP_SYS(ioctl), BOTH, EQUAL, 1, KVM_IOEVENTFD, 0},
    {SCMP_SYS(ioctl), BOTH, EQUAL, 1, KVM_SIGNAL_MSI, 0},

    /* What vmm/x86_64/vcpu_state.c reads; nothing of it changes the machine, but for the word that it stood still. */
    {SCMP_SYS(ioctl), SAVING, EQUAL, 1, KVM_GET_MP_STATE, 0},
    {SCMP_SYS(ioctl), SAVING, EQUAL, 1, KVM_GET_REGS, 0},
    {SCMP_SYS(ioctl), SAVING, EQUAL, 1, KVM_GET_SREGS, 0},
    {SCMP_SYS(ioctl), SAVING, EQUAL, 1, KVM_GET_XSAVE, 0},
    {SCMP_SYS(ioctl), SAVING, EQUAL, 1, KVM_GET_XCRS, 0},
    {SCMP_SYS(ioctl), SAVING, EQUAL, 1, KVM_GET_DEBUGREGS, 0},
    {SCMP_SYS(ioctl), SAVING, EQUAL, 1, KVM_GET_LAPIC, 0},
    {SCMP_SYS(ioctl), SAVING, EQUAL, 1, KVM_GET_MSRS, 0},
    {SCMP_SYS(ioctl), SAVING, EQUAL, 1, KVM_GET_VCPU_EVENTS, 0},
    {SCMP_SYS(ioctl), SAVING, EQUAL, 1, KVM_GET_DEVICE_ATTR, 0},
    {SCMP_SYS(ioctl), SAVING, EQUAL, 1, KVM_GET_TSC_KHZ, 0},
    {SCMP_SYS(ioctl), SAVING, EQUAL, 1, KVM_GET_CLOCK, 0},
    {SCMP_SYS(ioctl), SAVING, EQUAL, 1, KVM_KVMCLOCK_CTRL, 0},

    /* The window of a terminal. */
    {SCMP_SYS(ioctl), LOOP, EQUAL, 1, TIOCGWINSZ, 0},

    /* Bytes to and from descriptors that were handed over. */
    {SCMP_SYS(read), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(write), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(readv), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(writev), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(preadv), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(pwritev), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(preadv2), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(pwritev2), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(pread64), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(pwrite64), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(recvmsg), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(sendmsg), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(recvfrom), LOOP, ANY, 0, 0, 0},
    /* Without an address: a socket that was handed over connected stays with its peer. */
    {SCMP_SYS(sendto), LOOP, EQUAL, 4, 0, 0},
    {SCMP_SYS(accept4), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(shutdown), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(close), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(fstat), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(newfstatat), LOOP, EQUAL, 3, 0x1000 /* AT_EMPTY_PATH: fstat as the C library calls it */, 0},
    {SCMP_SYS(fcntl), LOOP, EQUAL, 1, 3 /* F_GETFL */, 0},
    {SCMP_SYS(fcntl), LOOP, EQUAL, 1, 4 /* F_SETFL */, 0},
    {SCMP_SYS(fcntl), LOOP, EQUAL, 1, 1 /* F_GETFD */, 0},
    {SCMP_SYS(fcntl), LOOP, EQUAL, 1, 2 /* F_SETFD */, 0},

    /* Disks. */
    {SCMP_SYS(fdatasync), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(fsync), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(fallocate), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(io_uring_enter), LOOP, ANY, 0, 0, 0},

    /* Waiting. */
    {SCMP_SYS(epoll_wait), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(epoll_pwait), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(epoll_pwait2), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(epoll_ctl), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(poll), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(ppoll), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(timerfd_settime), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(futex), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(sched_yield), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(restart_syscall), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(clock_gettime), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(clock_nanosleep), LOOP, ANY, 0, 0, 0},
    {SCMP_SYS(getrandom), LOOP, ANY, 0, 0, 0},

    /* Memory that can never be executed. */
    {SCMP_SYS(brk), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(mmap), BOTH, MASKED, 2, 0, PROT_EXEC},
    {SCMP_SYS(mprotect), BOTH, MASKED, 2, 0, PROT_EXEC},
    {SCMP_SYS(munmap), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(mremap), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(madvise), BOTH, ANY, 0, 0, 0},

    /* The end, and signals between this process's own threads (the process id is checked when the filter is made). */
    {SCMP_SYS(getpid), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(gettid), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(rt_sigreturn), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(rt_sigprocmask), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(exit), BOTH, ANY, 0, 0, 0},
    {SCMP_SYS(exit_group), BOTH, ANY, 0, 0, 0},
};

static int add_rule(scmp_filter_ctx filter, const struct rule *rule)
{
	struct scmp_arg_cmp condition;

	switch (rule->check) {
	case EQUAL:
		condition = SCMP_CMP(rule->argument, SCMP_CMP_EQ, rule->value);
		return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rule->call, 1, &condition);
	case MASKED:
		condition = SCMP_CMP(rule->argument, SCMP_CMP_MASKED_EQ, rule->mask, rule->value);
		return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rule->call, 1, &condition);
	case ANY:
		break;
	}
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, rule->call, 0);
}

static int fill_filter(scmp_filter_ctx filter, enum jail_thread thread)
{
	int result;

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		if (!(rules[i].threads & (1u << thread)))
			continue;
		result = add_rule(filter, &rules[i]);
		if (result < 0)
			return result;
	}
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
}

int jail_filter(enum jail_thread thread, struct error *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int result;

	if (!filter)
		return error_set(err, ENOMEM, "jail: allocate a system call filter");
	result = fill_filter(filter, thread);
	if (result == 0)
		result = seccomp_load(filter);
	seccomp_release(filter);
	if (result < 0)
		return error_set(err, -result, "jail: load the system call filter: error %d", -result);
	return 0;
}

#include "vmm/fsd/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/securebits.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"

/* The C library's <sys/mount.h> and <linux/mount.h> cannot both be included. */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int umount2(const char *target, int flags);
#define LOCKED_FLAGS (MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_RDONLY)
#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

static bool is_procfs(int fd)
{
	struct statfs st;

	return fstatfs(fd, &st) == 0 && st.f_type == PROC_SUPER_MAGIC;
}

int jail_enter_self(struct error *err)
{
	cleanup_close int fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return error_set_errno(err, "open `/proc/self/fd`");
	if (!is_procfs(fd))
		return error_set(err, ENOTSUP, "`/proc` is not procfs");
	if (fchdir(fd) < 0)
		return error_set_errno(err, "enter `/proc/self/fd`");
	return 0;
}

/* Must: leave a root in which nothing exists and nothing can be made.
 * Must not: propagate any of its mounts to the host; lose the current directory, /proc/self/fd. */
static int empty_root(struct error *err)
{
	cleanup_close int self = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (self < 0)
		return error_set_errno(err, "open the current directory");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_set_errno(err, "make mounts private");
	/* Mounted over "/" itself, the one directory that exists on every host; "/.." leads onto it. */
	if (mount("none", "/", "tmpfs", LOCKED_FLAGS, "size=4k,nr_inodes=2,mode=555") < 0)
		return error_set_errno(err, "mount an empty root");
	if (chdir("/..") < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return error_set_errno(err, "change to the empty root");
	/* Both roots are now stacked at "."; the upper one is the host's. */
	if (umount2(".", MNT_DETACH) < 0)
		return error_set_errno(err, "leave the host's root");
	if (chdir("/") < 0 || fchdir(self) < 0)
		return error_set_errno(err, "return to `/proc/self/fd`");
	return 0;
}

/* What remains, and for what. Permissions have been checked by the guest's kernel: here they must not be in the way,
 * since the owner of a file is a user of the guest. */
static const cap_value_t kept[] = {
    CAP_CHOWN,	      /* chown, chgrp */
    CAP_DAC_OVERRIDE, /* reach and open files whatever their mode */
    CAP_FOWNER,	      /* chmod, utimes, xattrs and ACLs of others' files; sticky directories; O_NOATIME */
    CAP_FSETID,	      /* set-group-ID on files of groups that this process is not in; keep such bits when root writes */
    CAP_SETUID,	      /* setfsuid: a new file has its owner from the start */
    CAP_SETGID,	      /* setfsgid */
    CAP_MKNOD,	      /* device nodes and whiteouts */
    CAP_SETFCAP,      /* security.capability */
};

static int drop_bounding_set(struct error *err)
{
	for (cap_value_t cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap) < 0)
			return error_set_errno(err, "drop capability %d from the bounding set", cap);
	return 0;
}

static int keep_capabilities(struct error *err)
{
	cap_t caps = cap_init();
	int failed;

	if (!caps)
		return error_set_errno(err, "allocate capabilities");
	failed = cap_set_flag(caps, CAP_PERMITTED, sizeof(kept) / sizeof(kept[0]), kept, CAP_SET) ||
		 cap_set_flag(caps, CAP_EFFECTIVE, sizeof(kept) / sizeof(kept[0]), kept, CAP_SET) || cap_set_proc(caps);
	cap_free(caps);
	return failed ? error_set_errno(err, "drop capabilities") : 0;
}

/* Must: end with the kept capabilities only, and without a way to more.
 * Must not: let the kernel take capabilities away when the file system uid changes (NO_SETUID_FIXUP). */
static int drop_privilege(struct error *err)
{
	if (setgroups(0, NULL) < 0)
		return error_set_errno(err, "drop supplementary groups");
	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_NOROOT |
					 SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
					 SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED) < 0)
		return error_set_errno(err, "set securebits");
	if (drop_bounding_set(err) < 0 || keep_capabilities(err) < 0)
		return -1;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_set_errno(err, "become undumpable");
	return 0;
}

int jail_enter(struct error *err)
{
	if (unshare(NAMESPACES) == 0) {
		if (empty_root(err) < 0 || drop_privilege(err) < 0)
			return -1;
	} else if (errno == EPERM) {
		log_line("no privilege to make namespaces: the host's root directory stays");
	} else {
		return error_set_errno(err, "make namespaces");
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set_errno(err, "set no_new_privs");
	return 0;
}

static const int allowed[] = {
    /* requests and answers, the log */
    SCMP_SYS(recvmsg), SCMP_SYS(recvfrom), SCMP_SYS(sendmsg), SCMP_SYS(write),
    /* waiting; the control socket's connections */
    SCMP_SYS(poll), SCMP_SYS(accept4),
    /* names */
    SCMP_SYS(openat), SCMP_SYS(close), SCMP_SYS(statx), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(symlinkat),
    SCMP_SYS(mknodat), SCMP_SYS(mkdirat), SCMP_SYS(unlinkat), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(linkat),
    SCMP_SYS(getdents64),
    /* attributes */
    SCMP_SYS(chmod), SCMP_SYS(fchownat), SCMP_SYS(utimensat), SCMP_SYS(truncate), SCMP_SYS(ftruncate),
    SCMP_SYS(setxattr), SCMP_SYS(getxattr), SCMP_SYS(listxattr), SCMP_SYS(removexattr), SCMP_SYS(fstatfs),
    /* data */
    SCMP_SYS(lseek), SCMP_SYS(pread64), SCMP_SYS(pwritev2), SCMP_SYS(fallocate), SCMP_SYS(copy_file_range),
    SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(syncfs),
    /* as whom */
    SCMP_SYS(setfsuid), SCMP_SYS(setfsgid), SCMP_SYS(umask), SCMP_SYS(capget), SCMP_SYS(capset),
    /* the C library and the end */
    SCMP_SYS(clock_gettime), SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall),
    SCMP_SYS(exit), SCMP_SYS(exit_group)};

int jail_filter(struct error *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int result = 0;

	if (!filter)
		return error_set(err, ENOMEM, "allocate a system call filter");
	for (size_t i = 0; result == 0 && i < sizeof(allowed) / sizeof(allowed[0]); i++)
		result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	if (result == 0)
		result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (result == 0)
		result = seccomp_load(filter);
	seccomp_release(filter);
	if (result < 0)
		return error_set(err, -result, "load the system call filter: error %d", -result);
	return 0;
}

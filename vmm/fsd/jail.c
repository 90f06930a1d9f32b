#include "vmm/fsd/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/filter.h"
#include "common/log.h"
#include "fsd_filters.h" /* made from vmm/filter/fsd.c */

/* The C library's <sys/mount.h> and <linux/mount.h> cannot both be included. */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int umount2(const char *target, int flags);
#define LOCKED_FLAGS (MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_RDONLY)
#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif

/* No network and no IPC namespace: making and removing these costs each container some three million instructions, and
 * the filter leaves no call that could make or find anything in them. */
#define NAMESPACES (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWCGROUP)

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
	cap_value_t cap = 0;

	while (prctl(PR_CAPBSET_DROP, cap) == 0)
		cap++;
	/* The kernel knows no more of them. */
	return errno == EINVAL && cap > 0 ? 0 : error_set_errno(err, "drop capability %d from the bounding set", cap);
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

int jail_filter(struct error *err)
{
	return filter_load(filter_server, sizeof(filter_server) / sizeof(filter_server[0]), err);
}

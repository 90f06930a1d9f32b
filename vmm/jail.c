#include "vmm/jail.h"

#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/filter.h"
#include "common/log.h"
#include "vmm_filters.h" /* made from vmm/filter/vmm.c */

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

/* Must: leave every namespace whose objects could be named without a path (interfaces, abstract sockets, IPC, host
 * name). Must not: leave the pid and user namespaces of a root caller: the engine watches this pid. */
static int enter_namespaces(const struct jail_options *options, bool *own_mounts, struct error *err)
{
	int flags = options->keep_network ? NAMESPACES & ~CLONE_NEWNET : NAMESPACES;

	*own_mounts = true;
	if (unshare(options->change_identity ? flags : flags | CLONE_NEWUSER) == 0)
		return 0;
	if (options->change_identity)
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
	cap_value_t cap = 0;

	while (prctl(PR_CAPBSET_DROP, cap) == 0)
		cap++;
	/* The kernel knows no more of them. */
	if (errno != EINVAL || cap == 0)
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

	if (enter_namespaces(options, &own_mounts, err) < 0)
		return -1;
	if (own_mounts && empty_root(err) < 0)
		return -1;
	if (options->change_identity && change_identity(options, err) < 0)
		return -1;
	if (drop_privilege(err) < 0)
		return -1;
	return limit_resources(err);
}

int jail_filter(enum jail_thread thread, struct error *err)
{
	static const struct {
		const struct sock_filter *program;
		size_t n;
	} filters[] = {
	    [JAIL_THREAD_LOOP] = {filter_loop, sizeof(filter_loop) / sizeof(filter_loop[0])},
	    [JAIL_THREAD_SAVING] = {filter_saving, sizeof(filter_saving) / sizeof(filter_saving[0])},
	    [JAIL_THREAD_VCPU] = {filter_vcpu, sizeof(filter_vcpu) / sizeof(filter_vcpu[0])},
	};

	return filter_load(filters[thread].program, filters[thread].n, err) < 0 ? error_prefix(err, "jail") : 0;
}

#include "vmm/fsd/identity.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the process has now. It starts as whoever started it; the first request that creates something finds a
 * difference, or none. */
static struct {
	bool known;
	uint32_t uid, gid, mask;
} present;

/* The raw calls: the C library's wrappers report no failure either, but these cannot be mistaken for calls that change
 * every thread. Both return the previous id, also on failure, hence the second call with an id that never exists. */
static bool set_id(long call, uint32_t id)
{
	syscall(call, id);
	return (uint32_t)syscall(call, UINT32_MAX) == id;
}

int identity_assume(uint32_t uid, uint32_t gid, uint32_t mask)
{
	mask &= 0777;
	if (!present.known || present.gid != gid) {
		present.known = false;
		if (!set_id(SYS_setfsgid, gid))
			return -EPERM;
		present.gid = gid;
	}
	if (!present.known || present.uid != uid) {
		present.known = false;
		if (!set_id(SYS_setfsuid, uid))
			return -EPERM;
		present.uid = uid;
	}
	if (!present.known || present.mask != mask) {
		umask(mask);
		present.mask = mask;
	}
	present.known = true;
	return 0;
}

static void set_effective_fsetid(bool on)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return;
	if (on)
		data[0].effective |= (1u << CAP_FSETID) & data[0].permitted;
	else
		data[0].effective &= ~(1u << CAP_FSETID);
	syscall(SYS_capset, &header, data);
}

void identity_drop_fsetid(void)
{
	set_effective_fsetid(false);
}

void identity_restore_fsetid(void)
{
	set_effective_fsetid(true);
}

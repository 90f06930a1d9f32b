#include "common/cgroup_values.h"

#include <errno.h>
#include <inttypes.h>

#define SHARES_MIN 2
#define SHARES_MAX 262144

uint64_t cgroup_cpu_weight(uint64_t shares)
{
	if (shares < SHARES_MIN)
		shares = SHARES_MIN;
	if (shares > SHARES_MAX)
		shares = SHARES_MAX;
	return 1 + (shares - SHARES_MIN) * 9999 / (SHARES_MAX - SHARES_MIN);
}

int cgroup_check_swap(int64_t limit, int64_t swap, struct error *err)
{
	if (swap == -1 || swap == 0)
		return 0;
	if (limit == 0 || limit == -1)
		return error_set(err, EINVAL,
				 "linux.resources.memory.swap: unable to set swap limit without memory limit");
	if (limit < 0)
		return error_set(err, EINVAL, "linux.resources.memory.limit: invalid memory value: %" PRId64, limit);
	if (swap < limit)
		return error_set(err, EINVAL,
				 "linux.resources.memory.swap: memory+swap limit should be >= memory limit");
	return 0;
}

int64_t cgroup_swap_max(int64_t limit, int64_t swap)
{
	/* No limit for memory means none for swap, unless that is named. */
	if (swap == -1 || (swap == 0 && limit == -1))
		return CGROUP_UNLIMITED;
	return swap == 0 ? CGROUP_UNSET : swap - limit;
}

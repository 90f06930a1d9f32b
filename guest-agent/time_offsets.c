#include "guest-agent/time_offsets.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/spec_values.h"
#include "guest-agent/places.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

#define SECOND 1000000000u /* nanoseconds */

static int read_one(const json_t *json, const char *clock, struct time_offset *offset, struct error *err)
{
	int64_t seconds = 0;
	uint64_t nanoseconds = 0;

	spec_get_i64(json_object_get(json, "secs"), &seconds);
	spec_get_u64(json_object_get(json, "nanosecs"), &nanoseconds);
	if (nanoseconds >= SECOND)
		return error_set(err, EINVAL, "linux.timeOffsets.%s.nanosecs must be less than a second", clock);
	*offset = (struct time_offset){true, seconds, (uint32_t)nanoseconds};
	return 0;
}

int time_offsets_read(const json_t *json, bool own, struct time_offsets *offsets, struct error *err)
{
	const char *clock;
	json_t *value;

	*offsets = (struct time_offsets){0};
	if (!own && json_object_size(json) > 0)
		return error_set(err, EINVAL,
				 "linux.timeOffsets: time namespace offsets specified, but time namespace isn't "
				 "enabled in the config");
	json_object_foreach((json_t *)json, clock, value)
	{
		struct time_offset *offset = strcmp(clock, "monotonic") == 0  ? &offsets->monotonic
					     : strcmp(clock, "boottime") == 0 ? &offsets->boottime
									      : NULL;

		if (!offset)
			return error_set(err, EINVAL, "linux.timeOffsets: there is no clock \"%s\" with an offset",
					 clock);
		if (read_one(value, clock, offset, err) < 0)
			return -1;
	}
	return 0;
}

static int write_one(int fd, const char *clock, const struct time_offset *offset)
{
	char line[96];
	int length = snprintf(line, sizeof(line), "%s %" PRId64 " %u\n", clock, offset->seconds, offset->nanoseconds);

	return !offset->given || write(fd, line, (size_t)length) == length ? 0 : -1;
}

static int write_offsets(const struct time_offsets *offsets, struct error *err)
{
	cleanup_close int fd = open(PLACE_PROC "/self/timens_offsets", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write_one(fd, "monotonic", &offsets->monotonic) < 0 ||
	    write_one(fd, "boottime", &offsets->boottime) < 0)
		return error_set_errno(err, "linux.timeOffsets");
	return 0;
}

int time_offsets_enter(const struct time_offsets *offsets, struct error *err)
{
	int own = open(PLACE_PROC "/self/ns/time", O_RDONLY | O_CLOEXEC);

	if (own < 0)
		return error_set_errno(err, "open the time namespace");
	if (unshare(CLONE_NEWTIME) < 0) {
		close(own);
		return error_set_errno(err, "make a time namespace");
	}
	if (write_offsets(offsets, err) == 0)
		return own;
	time_offsets_leave(own, NULL);
	return -1;
}

int time_offsets_leave(int own, struct error *err)
{
	int status = setns(own, CLONE_NEWTIME);

	if (status < 0)
		error_set_errno(err, "return from a container's time namespace");
	close(own);
	return status;
}

/*
 * System calls at run time: read (timerfd).
 */
#include "vmm/clock.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vmm/virtio/vsock.h"

#define NEVER_S (1ll << 33) /* the year 2242 */

static void clock_event(struct loop_source *source, uint32_t events)
{
	struct clock_watch *watch = source->owner;
	uint64_t times;

	(void)events;
	if (read(source->fd, &times, sizeof(times)) < 0 && errno == ECANCELED)
		vsock_clock_was_set(watch->vsock);
}

int clock_watch(struct clock_watch *watch, struct virtio_device *vsock, struct loop *loop, struct error *err)
{
	const struct itimerspec never = {.it_value = {.tv_sec = NEVER_S}};
	int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd < 0 || timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0)
		return error_set_errno(err, "watch the host's clock");
	watch->vsock = vsock;
	watch->source = (struct loop_source){.fd = fd, .events = EPOLLIN, .handle = clock_event, .owner = watch};
	return loop_add(loop, &watch->source, err);
}

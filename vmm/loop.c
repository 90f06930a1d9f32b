#include "vmm/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define EVENTS_MAX 32

/* A function that another thread wants to have run here; lives on that thread's stack. */
struct call {
	void (*function)(void *argument);
	void *argument;
	bool done;
	struct call *next;
};

struct loop {
	int epoll;
	bool running, stopped;
	int value;
	pthread_t thread;
	pthread_mutex_t lock;

	/* The batch that is being dispatched: what loop_remove has to forget as well. */
	struct epoll_event batch[EVENTS_MAX];
	int batch_size;

	/* Sources that epoll refuses because they never block. */
	struct loop_source **unpolled;
	size_t unpolled_count, unpolled_capacity;

	struct loop_timer *timers; /* armed, the next to fire first */

	struct loop_source wake; /* an eventfd: calls are waiting */
	struct call *calls;
	pthread_cond_t call_done;
};

static uint64_t now(void)
{
	return (uint64_t)now_ns();
}

static void run_calls(struct loop_source *source, uint32_t events)
{
	struct loop *loop = source->owner;
	struct call *call;
	uint64_t count;

	(void)events;
	if (read(source->fd, &count, sizeof(count)) < 0)
		return;
	while ((call = loop->calls)) {
		loop->calls = call->next;
		call->function(call->argument);
		call->done = true;
	}
	pthread_cond_broadcast(&loop->call_done);
}

struct loop *loop_new(struct error *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop) {
		error_set_errno(err, "allocate the event loop");
		return NULL;
	}
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->call_done, NULL);
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->wake = (struct loop_source){
	    .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .events = EPOLLIN, .handle = run_calls, .owner = loop};
	if (loop->epoll < 0 || loop->wake.fd < 0) {
		error_set_errno(err, "make the event loop");
		loop_free(loop);
		return NULL;
	}
	if (loop_add(loop, &loop->wake, err) < 0) {
		loop_free(loop);
		return NULL;
	}
	return loop;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	cleanup_close_fd(&loop->epoll);
	cleanup_close_fd(&loop->wake.fd);
	pthread_cond_destroy(&loop->call_done);
	pthread_mutex_destroy(&loop->lock);
	free(loop->unpolled);
	free(loop);
}

static int add_unpolled(struct loop *loop, struct loop_source *source, struct error *err)
{
	if (loop->unpolled_count == loop->unpolled_capacity) {
		size_t capacity = loop->unpolled_capacity ? 2 * loop->unpolled_capacity : 8;
		struct loop_source **larger = realloc(loop->unpolled, capacity * sizeof(struct loop_source *));

		if (!larger)
			return error_set_errno(err, "allocate an event source");
		loop->unpolled = larger;
		loop->unpolled_capacity = capacity;
	}
	loop->unpolled[loop->unpolled_count++] = source;
	source->unpolled = true;
	return 0;
}

int loop_add(struct loop *loop, struct loop_source *source, struct error *err)
{
	struct epoll_event event = {.events = source->events, .data.ptr = source};

	source->unpolled = false;
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, source->fd, &event) < 0) {
		if (errno != EPERM)
			return error_set_errno(err, "watch descriptor %d", source->fd);
		if (add_unpolled(loop, source, err) < 0)
			return -1;
	}
	source->added = true;
	return 0;
}

void loop_watch(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (!source->added || source->events == events)
		return;
	source->events = events;
	/* Cannot fail for a descriptor that is registered and open. */
	if (!source->unpolled)
		epoll_ctl(loop->epoll, EPOLL_CTL_MOD, source->fd, &event);
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
	if (!source->added)
		return;
	source->added = false;
	if (!source->unpolled)
		epoll_ctl(loop->epoll, EPOLL_CTL_DEL, source->fd, NULL);
	for (int i = 0; i < loop->batch_size; i++)
		if (loop->batch[i].data.ptr == source)
			loop->batch[i].data.ptr = NULL;
	/* Emptied, not closed up: dispatch_unpolled may be walking the list. */
	for (size_t i = 0; i < loop->unpolled_count; i++)
		if (loop->unpolled[i] == source)
			loop->unpolled[i] = NULL;
}

static void insert_timer(struct loop *loop, struct loop_timer *timer)
{
	struct loop_timer **position = &loop->timers;

	while (*position && (*position)->deadline <= timer->deadline)
		position = &(*position)->next;
	timer->next = *position;
	*position = timer;
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay)
{
	loop_timer_cancel(loop, timer);
	timer->deadline = now() + delay;
	insert_timer(loop, timer);
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
	if (timer->deadline == 0)
		return;
	timer->deadline = 0;
	for (struct loop_timer **position = &loop->timers; *position; position = &(*position)->next) {
		if (*position != timer)
			continue;
		*position = timer->next;
		return;
	}
}

/* Timers that a handler sets anew are later than this moment and wait for the next round. */
static void run_timers(struct loop *loop)
{
	uint64_t moment;

	if (!loop->timers)
		return;
	moment = now();
	while (loop->timers && loop->timers->deadline <= moment && !loop->stopped) {
		struct loop_timer *timer = loop->timers;

		loop->timers = timer->next;
		timer->deadline = 0;
		timer->handle(timer);
	}
}

static void close_up_unpolled(struct loop *loop)
{
	size_t kept = 0;

	for (size_t i = 0; i < loop->unpolled_count; i++)
		if (loop->unpolled[i])
			loop->unpolled[kept++] = loop->unpolled[i];
	loop->unpolled_count = kept;
}

static bool unpolled_ready(struct loop *loop)
{
	close_up_unpolled(loop);
	for (size_t i = 0; i < loop->unpolled_count; i++)
		if (loop->unpolled[i]->events)
			return true;
	return false;
}

static void dispatch_unpolled(struct loop *loop)
{
	size_t count = loop->unpolled_count; /* not those added meanwhile */

	for (size_t i = 0; i < count && !loop->stopped; i++) {
		struct loop_source *source = loop->unpolled[i];

		if (source && source->events)
			source->handle(source, source->events);
	}
}

static void dispatch_batch(struct loop *loop)
{
	for (int i = 0; i < loop->batch_size && !loop->stopped; i++) {
		struct loop_source *source = loop->batch[i].data.ptr;

		if (source)
			source->handle(source, loop->batch[i].events);
	}
	loop->batch_size = 0;
}

/* Milliseconds for epoll_wait, rounded up: a timer never fires early. */
static int wait_time(struct loop *loop)
{
	uint64_t moment, milliseconds;

	if (loop->stopped || unpolled_ready(loop))
		return 0;
	if (!loop->timers)
		return -1;
	moment = now();
	if (loop->timers->deadline <= moment)
		return 0;
	milliseconds = (loop->timers->deadline - moment + NS_PER_MS - 1) / NS_PER_MS;
	return milliseconds < 60000 ? (int)milliseconds : 60000;
}

int loop_run(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->thread = pthread_self();
	loop->running = true;
	while (!loop->stopped) {
		int timeout = wait_time(loop);
		int count;

		pthread_mutex_unlock(&loop->lock);
		count = epoll_wait(loop->epoll, loop->batch, EVENTS_MAX, timeout);
		pthread_mutex_lock(&loop->lock);
		loop->batch_size = count > 0 ? count : 0;
		dispatch_batch(loop);
		dispatch_unpolled(loop);
		run_timers(loop);
	}
	loop->running = false;
	loop->stopped = false;
	pthread_mutex_unlock(&loop->lock);
	return loop->value;
}

static bool on_loop_thread(struct loop *loop)
{
	return !loop->running || pthread_equal(loop->thread, pthread_self());
}

static void wake(struct loop *loop)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then the loop is about to wake anyhow. */
	if (write(loop->wake.fd, &one, sizeof(one)) < 0)
		return;
}

void loop_stop(struct loop *loop, int value)
{
	if (loop->stopped)
		return;
	loop->value = value;
	loop->stopped = true;
	if (!on_loop_thread(loop))
		wake(loop);
}

void loop_lock(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
}

bool loop_try_lock(struct loop *loop)
{
	return pthread_mutex_trylock(&loop->lock) == 0;
}

void loop_unlock(struct loop *loop)
{
	pthread_mutex_unlock(&loop->lock);
}

void loop_call(struct loop *loop, void (*function)(void *argument), void *argument)
{
	struct call call = {.function = function, .argument = argument};
	struct call **last = &loop->calls;

	if (on_loop_thread(loop)) {
		function(argument);
		return;
	}
	while (*last)
		last = &(*last)->next;
	*last = &call;
	wake(loop);
	while (!call.done)
		pthread_cond_wait(&loop->call_done, &loop->lock);
}

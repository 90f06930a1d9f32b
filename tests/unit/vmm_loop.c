/* The event loop: sources of every kind, removal at the worst moment, timers, calls of other threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/loop.h"

#define MILLISECOND 1000000ull

static struct loop *loop;

static int setup(void **state)
{
	struct error err;

	(void)state;
	loop = loop_new(&err);
	return loop ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	loop_free(loop);
	return 0;
}

static int ready_eventfd(void)
{
	return eventfd(1, EFD_NONBLOCK);
}

/* --- sources ---------------------------------------------------------------------------------------------------------
 */

struct counter {
	struct loop_source source;
	unsigned calls, stop_at;
	struct counter *victim; /* removed, closed and overwritten by the handler */
};

static void count(struct loop_source *source, uint32_t events)
{
	struct counter *counter = source->owner;

	assert_true(events & (EPOLLIN | EPOLLOUT));
	counter->calls++;
	if (counter->victim) {
		loop_remove(loop, &counter->victim->source);
		close(counter->victim->source.fd);
		free(counter->victim);
		counter->victim = NULL;
	}
	if (counter->calls == counter->stop_at)
		loop_stop(loop, 7);
}

static struct counter *add_counter(int fd, uint32_t events)
{
	struct counter *counter = calloc(1, sizeof(*counter));
	struct error err;

	counter->source = (struct loop_source){.fd = fd, .events = events, .handle = count, .owner = counter};
	assert_int_equal(loop_add(loop, &counter->source, &err), 0);
	return counter;
}

static void free_counter(struct counter *counter)
{
	loop_remove(loop, &counter->source);
	loop_remove(loop, &counter->source);
	close(counter->source.fd);
	free(counter);
}

static void test_level_triggered(void **state)
{
	struct counter *counter = add_counter(ready_eventfd(), EPOLLIN);

	(void)state;
	counter->stop_at = 3;
	assert_int_equal(loop_run(loop), 7);
	assert_int_equal(counter->calls, 3);
	free_counter(counter);
}

static void stop(struct loop_timer *timer)
{
	loop_stop(loop, *(const int *)timer->owner);
}

static int run_for(uint64_t delay)
{
	int value = 1;
	struct loop_timer timer = {.handle = stop, .owner = &value};

	loop_timer_set(loop, &timer, delay);
	return loop_run(loop);
}

static void test_watch(void **state)
{
	struct counter *counter = add_counter(ready_eventfd(), EPOLLIN);

	(void)state;
	loop_watch(loop, &counter->source, 0);
	run_for(MILLISECOND);
	assert_int_equal(counter->calls, 0);
	loop_watch(loop, &counter->source, EPOLLOUT);
	counter->stop_at = 1;
	assert_int_equal(run_for(1000 * MILLISECOND), 7);
	free_counter(counter);
}

/* A file is always ready, until it is told to rest. */
static void test_unpolled(void **state)
{
	struct counter *first = add_counter(open("/dev/null", O_RDWR), EPOLLOUT);
	struct counter *second = add_counter(open("/proc/self/exe", O_RDONLY), 0);

	(void)state;
	assert_true(first->source.unpolled && second->source.unpolled);
	first->stop_at = 5;
	assert_int_equal(loop_run(loop), 7);
	assert_int_equal(second->calls, 0);
	loop_watch(loop, &first->source, 0);
	run_for(MILLISECOND);
	assert_int_equal(first->calls, 5);
	loop_watch(loop, &second->source, EPOLLIN);
	second->stop_at = 1;
	assert_int_equal(loop_run(loop), 7);
	/* One removes the other while both are to be served. */
	loop_watch(loop, &first->source, EPOLLOUT);
	second->stop_at = 0;
	first->victim = second;
	run_for(MILLISECOND);
	assert_null(first->victim);
	free_counter(first);
}

/* Both are in one batch of events; whichever comes first frees the other. */
static void test_removed_in_batch(void **state)
{
	struct counter *first = add_counter(ready_eventfd(), EPOLLIN);
	struct counter *second = add_counter(ready_eventfd(), EPOLLIN);

	(void)state;
	first->victim = second;
	first->stop_at = 4;
	assert_int_equal(loop_run(loop), 7);
	assert_int_equal(first->calls, 4);
	free_counter(first);
}

static void test_removes_itself(void **state)
{
	struct counter *counter = add_counter(ready_eventfd(), EPOLLIN);
	struct counter *other = add_counter(ready_eventfd(), EPOLLIN);

	(void)state;
	other->stop_at = 3;
	loop_remove(loop, &counter->source);
	assert_int_equal(loop_run(loop), 7);
	assert_int_equal(counter->calls, 0);
	free_counter(counter);
	free_counter(other);
}

static void test_bad_descriptor(void **state)
{
	struct loop_source source = {.fd = -1, .events = EPOLLIN};
	struct error err;

	(void)state;
	assert_int_equal(loop_add(loop, &source, &err), -1);
	assert_int_equal(err.code, EBADF);
	loop_remove(loop, &source);
	loop_watch(loop, &source, EPOLLOUT);
}

/* --- timers ----------------------------------------------------------------------------------------------------------
 */

static char order[8];
static unsigned fired;

static void note(struct loop_timer *timer)
{
	order[fired++] = *(const char *)timer->owner;
	if (fired == 3)
		loop_stop(loop, 0);
}

static void test_timers(void **state)
{
	struct loop_timer a = {.handle = note, .owner = "a"}, b = {.handle = note, .owner = "b"},
			  c = {.handle = note, .owner = "c"}, d = {.handle = note, .owner = "d"};
	struct timespec before, after;

	(void)state;
	fired = 0;
	loop_timer_set(loop, &a, 30 * MILLISECOND);
	loop_timer_set(loop, &b, 1 * MILLISECOND);
	loop_timer_set(loop, &c, 10 * MILLISECOND);
	loop_timer_set(loop, &d, 15 * MILLISECOND);
	loop_timer_set(loop, &b, 20 * MILLISECOND); /* moved */
	loop_timer_cancel(loop, &d);
	loop_timer_cancel(loop, &d);
	clock_gettime(CLOCK_MONOTONIC, &before);
	loop_run(loop);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_int_equal(fired, 3);
	assert_memory_equal(order, "cba", 3);
	assert_true((after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec - before.tv_nsec >=
		    29 * (long long)MILLISECOND);
}

static void set_again(struct loop_timer *timer)
{
	loop_timer_set(loop, timer, 0);
	if (++fired == 5)
		loop_stop(loop, 3);
}

static void test_timer_sets_itself(void **state)
{
	struct loop_timer timer = {.handle = set_again};

	(void)state;
	fired = 0;
	loop_timer_set(loop, &timer, 0);
	assert_int_equal(loop_run(loop), 3);
	assert_int_equal(fired, 5);
	loop_timer_cancel(loop, &timer);
}

/* --- other threads ---------------------------------------------------------------------------------------------------
 */

#define CALLS 2000
#define THREADS 3

static unsigned long called;
static pthread_t loop_thread;

static void increment(void *argument)
{
	(void)argument;
	assert_true(pthread_equal(pthread_self(), loop_thread));
	called++;
}

static void *call_often(void *argument)
{
	for (unsigned i = 0; i < CALLS; i++) {
		loop_lock(loop);
		loop_call(loop, increment, argument);
		loop_unlock(loop);
	}
	loop_lock(loop);
	if (called == (unsigned long)CALLS * THREADS)
		loop_stop(loop, 9);
	loop_unlock(loop);
	return NULL;
}

static void start_threads(struct loop_timer *timer)
{
	pthread_t *threads = timer->owner;

	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, call_often, NULL), 0);
}

static void test_calls(void **state)
{
	pthread_t threads[THREADS];
	struct loop_timer timer = {.handle = start_threads, .owner = threads};

	(void)state;
	called = 0;
	loop_thread = pthread_self();
	loop_lock(loop);
	loop_call(loop, increment, NULL); /* not running: at once */
	loop_unlock(loop);
	assert_int_equal(called, 1);
	called = 0;
	/* From a handler: before the loop runs, a call would be made on the caller's thread. */
	loop_timer_set(loop, &timer, 0);
	assert_int_equal(loop_run(loop), 9);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(called, CALLS * THREADS);
}

static void *stop_later(void *argument)
{
	(void)argument;
	usleep(2000);
	loop_lock(loop);
	loop_stop(loop, 4);
	loop_stop(loop, 5);
	loop_unlock(loop);
	return NULL;
}

static void test_stop_from_thread(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, stop_later, NULL), 0);
	assert_int_equal(loop_run(loop), 4);
	pthread_join(thread, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_level_triggered), TEST(test_watch),
	    TEST(test_unpolled),	TEST(test_removed_in_batch),
	    TEST(test_removes_itself),	TEST(test_bad_descriptor),
	    TEST(test_timers),		TEST(test_timer_sets_itself),
	    TEST(test_calls),		TEST(test_stop_from_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

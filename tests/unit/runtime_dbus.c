/*
 * Messages to and from systemd: what is built can be read, and what is cut or changed is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/dbus.h"

/* What dbus_send writes, read by dbus_parse. */
static size_t make_message(unsigned char *data, size_t room)
{
	struct dbus_buffer *body = calloc(1, sizeof(*body));
	struct dbus_call call = {"/a/path", "an.interface", "AMember", "uoss", body};
	struct error err;
	int ends[2];
	ssize_t n;

	dbus_put_u32(body, 7);
	dbus_put_string(body, "/job/77");
	dbus_put_string(body, "hull-c.scope");
	dbus_put_string(body, "done");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(dbus_send(ends[0], 5, &call, &err), 0);
	n = read(ends[1], data, room);
	assert_true(n > 0);
	close(ends[0]);
	close(ends[1]);
	free(body);
	return (size_t)n;
}

static void test_round_trip(void **state)
{
	unsigned char data[1024];
	struct dbus_message message;
	size_t size = make_message(data, sizeof(data));

	(void)state;
	assert_int_equal(dbus_message_size(data), size);
	assert_int_equal(dbus_parse(data, size, &message), 0);
	assert_int_equal(message.kind, DBUS_CALL);
	assert_string_equal(message.member, "AMember");
	assert_string_equal(message.texts[0], "/job/77");
	assert_string_equal(message.texts[1], "hull-c.scope");
	assert_string_equal(message.texts[2], "done");
}

/* Any single byte may be anything: nothing may be read beyond the message (the sanitizer watches). */
static void test_damage(void **state)
{
	unsigned char data[1024];
	struct dbus_message message;
	size_t size = make_message(data, sizeof(data));

	(void)state;
	for (size_t i = 0; i < size; i++) {
		unsigned char *copy = malloc(size);

		for (unsigned value = 0; value < 256; value += 5) {
			memcpy(copy, data, size);
			copy[i] = (unsigned char)value;
			dbus_parse(copy, size, &message);
		}
		free(copy);
	}
	for (size_t cut = 0; cut < size; cut++) {
		unsigned char *copy = malloc(cut + 1);

		memcpy(copy, data, cut);
		assert_int_equal(dbus_parse(copy, cut, &message), -1);
		free(copy);
	}
}

static void test_too_long(void **state)
{
	struct dbus_buffer *body = calloc(1, sizeof(*body));
	struct dbus_call call = {"/", "a.b", "C", "s", body};
	struct error err;

	(void)state;
	for (int i = 0; i < 10000; i++)
		dbus_put_u64(body, 1);
	assert_true(body->failed);
	assert_int_equal(dbus_send(-1, 1, &call, &err), -1);
	assert_non_null(strstr(err.message, "too long"));
	free(body);
}

static void test_arrays(void **state)
{
	struct dbus_buffer *body = calloc(1, sizeof(*body));
	struct dbus_array array;

	(void)state;
	dbus_put_byte(body, 1);
	array = dbus_open_array(body, 8);
	dbus_put_u64(body, 2);
	dbus_close_array(body, array);
	/* byte, 3 of padding, length, (already aligned), one number */
	assert_int_equal(body->size, 16);
	assert_int_equal(body->data[4], 8);
	free(body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round_trip),
	    cmocka_unit_test(test_damage),
	    cmocka_unit_test(test_too_long),
	    cmocka_unit_test(test_arrays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

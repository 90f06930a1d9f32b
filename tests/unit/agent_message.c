/* Framing of control messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/agent_protocol.h"
#include "guest-agent/message.h"

/* Feeds bytes in pieces of at most `step`. Returns how many were taken until a message was complete or an error came.
 */
static size_t feed(struct message_reader *reader, const void *bytes, size_t size, size_t step, int *complete,
		   struct error *err)
{
	size_t used = 0;

	*complete = 0;
	while (used < size) {
		size_t room;
		void *place = message_reader_room(reader, &room, err);

		if (!place) {
			*complete = -1;
			return used;
		}
		assert_true(room > 0);
		if (room > step)
			room = step;
		if (room > size - used)
			room = size - used;
		memcpy(place, (const char *)bytes + used, room);
		used += room;
		if (message_reader_add(reader, room)) {
			*complete = 1;
			return used;
		}
	}
	return used;
}

static void test_round_trip(void **state)
{
	json_t *object = json_pack("{s:s, s:[i, i]}", "order", "state", "x", 1, 2);
	struct message_reader reader = {0};
	struct error err;
	size_t size;
	unsigned char *message = message_encode(object, &size);

	(void)state;
	assert_non_null(message);
	for (size_t step = 1; step < 20; step++) {
		json_t *got;
		int complete;

		assert_int_equal(feed(&reader, message, size, step, &complete, &err), size);
		assert_int_equal(complete, 1);
		got = message_reader_take(&reader, &err);
		assert_true(json_equal(got, object));
		json_decref(got);
	}
	free(message);
	json_decref(object);
}

static void test_two_in_a_row(void **state)
{
	static const char bytes[] = "\x02\0\0\0{}\x02\0\0\0{}";
	struct message_reader reader = {0};
	struct error err;
	int complete;

	(void)state;
	assert_int_equal(feed(&reader, bytes, 12, 100, &complete, &err), 6);
	json_decref(message_reader_take(&reader, &err));
	assert_int_equal(feed(&reader, bytes + 6, 6, 100, &complete, &err), 6);
	assert_int_equal(complete, 1);
	json_decref(message_reader_take(&reader, &err));
}

static void expect_bad_length(uint32_t length)
{
	unsigned char bytes[5] = {(unsigned char)length, (unsigned char)(length >> 8), (unsigned char)(length >> 16),
				  (unsigned char)(length >> 24), 'x'};
	struct message_reader reader = {0};
	struct error err;
	int complete;

	feed(&reader, bytes, sizeof(bytes), 100, &complete, &err);
	assert_int_equal(complete, -1);
	message_reader_clear(&reader);
}

static void test_lengths(void **state)
{
	(void)state;
	expect_bad_length(0);
	expect_bad_length(AGENT_MESSAGE_MAX + 1);
	expect_bad_length(UINT32_MAX);
}

static void test_not_json(void **state)
{
	static const char *const bodies[] = {"[1]", "nul", "{\"a\"", "\"x\"", "{}x"};

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		char bytes[32] = {(char)strlen(bodies[i])};
		struct message_reader reader = {0};
		struct error err;
		int complete;

		memcpy(bytes + 4, bodies[i], strlen(bodies[i]));
		feed(&reader, bytes, 4 + strlen(bodies[i]), 3, &complete, &err);
		assert_int_equal(complete, 1);
		assert_null(message_reader_take(&reader, &err));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round_trip),
	    cmocka_unit_test(test_two_in_a_row),
	    cmocka_unit_test(test_lengths),
	    cmocka_unit_test(test_not_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

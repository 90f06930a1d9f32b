/* The arithmetic of flow control, around the point where the counters begin anew as well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <endian.h>
#include <cmocka.h>

#include "vmm/stream.h"
#include "vmm/virtio/vsock_credit.h"

static struct virtio_vsock_hdr guest_says(uint32_t buffer, uint32_t forward)
{
	return (struct virtio_vsock_hdr){.buf_alloc = htole32(buffer), .fwd_cnt = htole32(forward)};
}

static void test_to_guest(void **state)
{
	struct vsock_credit credit = {.sent = UINT32_MAX - 10};
	struct virtio_vsock_hdr header = guest_says(100, UINT32_MAX - 20);

	(void)state;
	credit_take(&credit, &header);
	assert_int_equal(credit_left(&credit), 90);
	credit.sent += 90;
	assert_int_equal(credit_left(&credit), 0);
	header = guest_says(50, UINT32_MAX - 20);
	credit_take(&credit, &header); /* smaller than what is under way */
	assert_int_equal(credit_left(&credit), 0);
	header = guest_says(50, 79);
	credit_take(&credit, &header);
	assert_int_equal(credit_left(&credit), 50);
	header = guest_says(50, 80);
	credit_take(&credit, &header); /* more than it was sent */
	assert_int_equal(credit_left(&credit), 0);
}

static void test_from_guest(void **state)
{
	uint32_t delivered = UINT32_MAX - 10;
	struct vsock_credit credit = {.received = delivered, .told = delivered};
	struct virtio_vsock_hdr header = {0};

	(void)state;
	assert_true(credit_receive(&credit, STREAM_BUFFER_SIZE, delivered));
	assert_false(credit_is_due(&credit, delivered + STREAM_BUFFER_SIZE / 2 - 1));
	delivered += STREAM_BUFFER_SIZE / 2;
	assert_true(credit_is_due(&credit, delivered));
	credit_tell(&credit, delivered, &header);
	assert_int_equal(le32toh(header.buf_alloc), STREAM_BUFFER_SIZE);
	assert_true(le32toh(header.fwd_cnt) == delivered);
	assert_false(credit_is_due(&credit, delivered));
	assert_true(credit_receive(&credit, STREAM_BUFFER_SIZE / 2, delivered));
	assert_false(credit_receive(&credit, 1, delivered));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_to_guest),
	    cmocka_unit_test(test_from_guest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

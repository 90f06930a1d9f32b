#include "guest-agent/kernel_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"

#define RECORD_MAX 8192
#define TEXT_MAX (1u << 20)

/* A record is "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;MESSAGE\n" and lines that begin with a space (Documentation/ABI/
 * testing/dev-kmsg). Returns the message, or NULL when it is none. */
static char *parse_record(char *record, uint64_t *sequence, uint64_t *microseconds)
{
	char *message = strchr(record, ';');
	char *comma = strchr(record, ',');

	if (!message || !comma || comma > message)
		return NULL;
	*sequence = strtoull(comma + 1, &comma, 10);
	if (*comma != ',')
		return NULL;
	*microseconds = strtoull(comma + 1, NULL, 10);
	message++;
	message[strcspn(message, "\n")] = '\0';
	/* What a program wrote there need not be text. */
	for (char *c = message; *c; c++)
		if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
			*c = '?';
	return message;
}

/* Returns 1 when there may be more, 0 at the end. */
static int read_record(int fd, uint64_t from, FILE *out, uint64_t *next)
{
	char record[RECORD_MAX];
	ssize_t n = read(fd, record, sizeof(record) - 1);
	uint64_t sequence, microseconds;
	char *message;

	/* EPIPE: what stood there has been overwritten meanwhile; reading goes on with the oldest. */
	if (n < 0)
		return errno == EPIPE || errno == EINTR;
	record[n] = '\0';
	message = parse_record(record, &sequence, &microseconds);
	if (!message || sequence < from)
		return n > 0;
	fprintf(out, "[%5" PRIu64 ".%06" PRIu64 "] %s\n", microseconds / 1000000, microseconds % 1000000, message);
	*next = sequence + 1;
	return 1;
}

/* The agent's root has no /dev. */
static int open_log(void)
{
	mknod("/kmsg", S_IFCHR | 0600, makedev(1, 11));
	return open("/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

json_t *kernel_log_read(uint64_t from, struct error *err)
{
	cleanup_close int fd = open_log();
	cleanup_free char *text = NULL;
	uint64_t next = from;
	size_t size = 0;
	FILE *out;

	if (fd < 0) {
		error_set_errno(err, "open the kernel's log");
		return NULL;
	}
	out = open_memstream(&text, &size);
	while (out && ftell(out) < (long)TEXT_MAX && read_record(fd, from, out, &next))
		;
	if (!out || fclose(out) != 0) {
		error_set_errno(err, "read the kernel's log");
		return NULL;
	}
	return json_pack("{s:s, s:I}", "text", text, "next", (json_int_t)next);
}

#include "runtime/kernel_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "runtime/agent.h"
#include "runtime/attach.h"
#include "runtime/output.h"

#define TIMEOUT_SECONDS 10
#define FOLLOW_MS 250

/* Both the guest and the VMM could fill a terminal with control sequences. */
static void make_printable(char *text, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (((unsigned char)text[i] < 0x20 && text[i] != '\n' && text[i] != '\t') || text[i] == 0x7f)
			text[i] = '?';
}

int kernel_log_print_file(const struct container *container, const char *name, struct error *err)
{
	cleanup_close int fd = openat(container->folder, name, O_RDONLY | O_CLOEXEC);
	char text[65537];
	ssize_t n;

	if (fd < 0)
		return error_set_errno(err, "open file `%s` of container %s", name, container->id);
	while ((n = read(fd, text, sizeof(text) - 1)) > 0) {
		make_printable(text, (size_t)n);
		text[n] = '\0';
		if (output_text(text, err) < 0)
			return -1;
	}
	return n < 0 ? error_set_errno(err, "read file `%s` of container %s", name, container->id) : 0;
}

/* In pieces, because what the answer holds is not to be changed. */
static int print_text(const char *text, struct error *err)
{
	char piece[4097];

	for (size_t left = strlen(text), size; left > 0; left -= size, text += size) {
		size = left < sizeof(piece) - 1 ? left : sizeof(piece) - 1;
		memcpy(piece, text, size);
		piece[size] = '\0';
		make_printable(piece, size);
		if (output_text(piece, err) < 0)
			return -1;
	}
	return 0;
}

/* Prints what has come since *next. Returns 1 when there was something, 0, or -1. */
static int print_news(const struct container *container, struct attachment *attachment, uint64_t *next,
		      struct error *err)
{
	cleanup_free char *order = NULL;
	const char *text;
	json_t *answer;
	json_int_t number;
	int result = 0;

	if (asprintf(&order, "{\"order\":\"kernel-log\",\"id\":\"%s\",\"from\":%" PRIu64 "}", container->id, *next) < 0)
		return error_set(err, ENOMEM, "make an order");
	watch_set_timeout(&attachment->watch, TIMEOUT_SECONDS);
	if (agent_order(attachment->agent, &attachment->watch, order, strlen(order), &answer, err) < 0)
		return -1;
	text = json_string_value(json_object_get(answer, "text"));
	number = json_integer_value(json_object_get(answer, "next"));
	if (text && number > 0 && (uint64_t)number > *next) {
		*next = (uint64_t)number;
		result = print_text(text, err) < 0 ? -1 : 1;
	}
	json_decref(answer);
	return result;
}

static int print_live(const struct container *container, bool follow, struct error *err)
{
	cleanup_attachment struct attachment attachment = ATTACHMENT_NONE;
	struct pollfd ended;
	uint64_t next = 0;
	int result;

	if (attach(container, TIMEOUT_SECONDS, &attachment, err) < 0 || attach_agent(&attachment, err) < 0)
		return -1;
	do {
		result = print_news(container, &attachment, &next, err);
		ended = (struct pollfd){.fd = attachment.watch.vmm, .events = POLLIN};
		/* A reader that has gone away is no reason to say anything; neither is the end of the machine. */
		if (result == 0 && follow && poll(&ended, 1, FOLLOW_MS) == 1)
			return 0;
	} while (result > 0 || (result == 0 && follow));
	return follow && attachment.watch.event != WATCH_NOTHING && poll(&ended, 1, 1000) == 1 ? 0 : result;
}

int kernel_log_print(const struct container *container, bool follow, struct error *err)
{
	enum container_status status = container_status(container);

	if (status != CONTAINER_STOPPED && status != CONTAINER_CREATING)
		return print_live(container, follow, err);
	if (kernel_log_print_file(container, CONTAINER_CONSOLE_FILE, err) == 0)
		return 0;
	if (err->code != ENOENT)
		return -1;
	return error_set(
	    err, ENOENT,
	    "the container does not run and its kernel's messages were not kept (annotation hull.console)");
}

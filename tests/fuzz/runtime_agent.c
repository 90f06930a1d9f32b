/*
 * What an agent answers: the guest chooses every byte. Any bytes give an answer or an error with one printable line,
 * and never make the caller wait longer than it wants.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/io.h"
#include "runtime/agent.h"

#define INPUT_MAX 65536 /* fits into the socket at once */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct watch watch = WATCH_NONE;
	struct error err = {0};
	json_t *answer = NULL;
	int ends[2];

	if (size > INPUT_MAX || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) < 0)
		return 0;
	if (write_exactly(ends[1], data, size) < 0)
		abort();
	shutdown(ends[1], SHUT_WR);
	watch_set_timeout(&watch, 1);
	if (agent_order(ends[0], &watch, "{}", 2, &answer, &err) < 0) {
		if (err.message[0] == '\0' || watch.event == WATCH_TIMEOUT)
			abort();
		for (const char *c = err.message; *c; c++)
			if ((unsigned char)*c < 0x20 || *c == 0x7f)
				abort();
	} else if (!json_is_object(answer)) {
		abort();
	}
	json_decref(answer);
	close(ends[0]);
	close(ends[1]);
	return 0;
}

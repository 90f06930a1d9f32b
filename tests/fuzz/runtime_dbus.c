/*
 * Messages from systemd: any bytes are read without going beyond them.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/dbus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dbus_message message;

	if (dbus_parse(data, size, &message) < 0)
		return 0;
	/* All texts end within their places. */
	for (size_t i = 0; i < DBUS_TEXTS; i++)
		if (strlen(message.texts[i]) >= sizeof(message.texts[i]))
			abort();
	if (strlen(message.member) >= sizeof(message.member) || strlen(message.error) >= sizeof(message.error))
		abort();
	return 0;
}

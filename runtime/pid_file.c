#include "runtime/pid_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/io.h"

int pid_file_write(const char *path, pid_t pid, struct error *err)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", (int)pid);
	if (write_file_atomically_at(AT_FDCWD, path, text, strlen(text), 0644, err) < 0)
		return error_prefix(err, "--pid-file");
	return 0;
}

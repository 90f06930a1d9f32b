#include "runtime/memory_use.h"

#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "runtime/process.h"

/* /proc/PID/smaps_rollup: the sums of all mappings, "NAME:  N kB". (Linux kernel, Documentation/filesystems/proc.rst)
 */
static void add_process(const struct process *process, struct memory_use *use)
{
	unsigned long long kilobytes, resident = 0, own = 0;
	cleanup_file FILE *file = NULL;
	char path[64], line[256], name[64];

	if (!process_alive(process))
		return;
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)process->pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%63[^:]: %llu kB", name, &kilobytes) != 2)
			continue;
		if (strcmp(name, "Rss") == 0)
			resident = kilobytes;
		else if (strcmp(name, "Anonymous") == 0)
			own = kilobytes;
	}
	use->private_bytes += own * 1024;
	use->shared_bytes += resident > own ? (resident - own) * 1024 : 0;
}

struct memory_use memory_use_of(const struct state *state)
{
	struct memory_use use = {0};

	add_process(&state->vmm, &use);
	add_process(&state->fsd, &use);
	add_process(&state->relay, &use);
	return use;
}

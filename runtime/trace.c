#include "runtime/trace.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/vmm_control.h"

#define STEPS_MAX 64
#define LOG_MAX (1u << 20)

struct step {
	int64_t time; /* CLOCK_MONOTONIC of the host */
	const char *who;
	char name[80];
};

static struct {
	bool wanted;
	struct step steps[STEPS_MAX];
	size_t n;
} trace;

static void add(int64_t time, const char *who, const char *name)
{
	struct step *step = &trace.steps[trace.n];

	if (!trace.wanted || trace.n == STEPS_MAX)
		return;
	trace.n++;
	step->time = time;
	step->who = who;
	snprintf(step->name, sizeof(step->name), "%s", name);
	/* Some come from a guest. */
	for (char *c = step->name; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
}

void trace_begin(void)
{
	trace.wanted = true;
}

bool trace_wanted(void)
{
	return trace.wanted;
}

void trace_step(const char *name)
{
	if (trace.wanted)
		add(now_ns(), "hull", name);
}

/* The guest's clock is another one. Its steps are told by how long before its answer they were, and the answer was
 * under way for some time as well: so they are a little late here. */
void trace_add_guest(const json_t *answer)
{
	const json_t *steps = json_object_get(answer, "trace"), *step;
	int64_t now = now_ns();
	size_t i;

	json_array_foreach(steps, i, step)
	{
		const char *name = json_string_value(json_array_get(step, 0));
		json_int_t before = json_integer_value(json_array_get(step, 1));

		if (name && before >= 0 && before < now)
			add(now - before, "guest", name);
	}
}

static int by_time(const void *left, const void *right)
{
	const struct step *a = left, *b = right;

	return (a->time > b->time) - (a->time < b->time);
}

static void add_log(int log)
{
	cleanup_free char *text = NULL;
	char *line, *rest, name[80];
	long long time;

	if (lseek(log, 0, SEEK_SET) < 0 || read_stream(log, LOG_MAX, &text, NULL, NULL) < 0)
		return;
	for (rest = text; (line = strsep(&rest, "\n"));)
		if (sscanf(line, "hull-vmm: " VMM_TRACE_WORD " %lld %79[^\n]", &time, name) == 2)
			add(time, "vmm", name);
}

void trace_print(int log)
{
	if (!trace.wanted)
		return;
	add_log(log);
	qsort(trace.steps, trace.n, sizeof(trace.steps[0]), by_time);
	fprintf(stderr, "%10s %10s  %-6s %s\n", "ms", "since", "where", "step reached");
	for (size_t i = 0; i < trace.n; i++)
		fprintf(stderr, "%10.3f %10.3f  %-6s %s\n", (double)(trace.steps[i].time - trace.steps[0].time) / 1e6,
			i > 0 ? (double)(trace.steps[i].time - trace.steps[i - 1].time) / 1e6 : 0.0, trace.steps[i].who,
			trace.steps[i].name);
	trace.wanted = false;
}

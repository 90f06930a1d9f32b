#include "runtime/duration.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define DURATION_MAX 9.2e18

static const struct {
	const char *name;
	double nanoseconds;
} units[] = {
    {"ns", 1}, {"us", 1e3}, {"µs", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9},
};

/* The unit whose name stands there, the longest one. Returns its number or -1. */
static int find_unit(const char *text)
{
	int found = -1;

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strncmp(text, units[i].name, strlen(units[i].name)) == 0 &&
		    (found < 0 || strlen(units[i].name) > strlen(units[found].name)))
			found = (int)i;
	return found;
}

int duration_parse(const char *text, int64_t *nanoseconds)
{
	double total = 0;

	if (strcmp(text, "0") == 0) {
		*nanoseconds = 0;
		return 0;
	}
	do {
		/* No sign, no exponent, no "inf": digits and at most a point. */
		size_t length = strspn(text, "0123456789.");
		double number;
		char *end;
		int unit;

		if (length == 0)
			return -1;
		number = strtod(text, &end);
		if (end != text + length)
			return -1;
		unit = find_unit(end);
		if (unit < 0)
			return -1;
		total += number * units[unit].nanoseconds;
		text = end + strlen(units[unit].name);
	} while (*text);
	if (total > DURATION_MAX)
		return -1;
	*nanoseconds = (int64_t)total;
	return 0;
}

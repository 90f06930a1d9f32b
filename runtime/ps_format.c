#include "runtime/ps_format.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "common/words.h"
#include "runtime/describe.h"

#define CELL_MAX 64
#define DAY 86400
#define KIB 1024

/* One process, and what its figures are compared with. */
struct row {
	const json_t *process;
	long long memory; /* of the machine, in bytes */
};

static long long number_of(const json_t *process, const char *name)
{
	return json_integer_value(json_object_get(process, name));
}

/* --- cells ------------------------------------------------------------------------------------------------------- */

/* Each writes into cell, of CELL_MAX bytes. */

static void print_number(const struct row *row, const char *member, char *cell)
{
	snprintf(cell, CELL_MAX, "%lld", number_of(row->process, member));
}

static void print_kib(const struct row *row, const char *member, char *cell)
{
	snprintf(cell, CELL_MAX, "%lld", number_of(row->process, member) / KIB);
}

static void print_user(const struct row *row, const char *member, char *cell)
{
	user_name((uid_t)number_of(row->process, member), cell, CELL_MAX);
}

/* In parts of a thousand. */
static long long share_of_cpu(const struct row *row)
{
	long long used = number_of(row->process, "cpu");
	long long lived = number_of(row->process, "now") - number_of(row->process, "start");

	return lived > 0 && used > 0 ? used * 1000 / lived : 0;
}

static void print_c(const struct row *row, const char *member, char *cell)
{
	long long percent = share_of_cpu(row) / 10;

	(void)member;
	snprintf(cell, CELL_MAX, "%lld", percent > 99 ? 99 : percent);
}

static void print_percent(long long thousandths, char *cell)
{
	snprintf(cell, CELL_MAX, "%lld.%lld", thousandths / 10, thousandths % 10);
}

static void print_cpu(const struct row *row, const char *member, char *cell)
{
	(void)member;
	print_percent(share_of_cpu(row), cell);
}

static void print_memory(const struct row *row, const char *member, char *cell)
{
	print_percent(row->memory > 0 ? number_of(row->process, member) * 1000 / row->memory : 0, cell);
}

/* The time of day, or the day when that is long ago. */
static void print_start(const struct row *row, const char *member, char *cell)
{
	time_t start = (time_t)(number_of(row->process, member) / 1000);
	time_t now = (time_t)(number_of(row->process, "now") / 1000);
	struct tm broken;

	if (!localtime_r(&start, &broken) ||
	    strftime(cell, CELL_MAX, now - start < DAY ? "%H:%M" : "%b%d", &broken) == 0)
		snprintf(cell, CELL_MAX, "?");
}

static void print_clock(long long seconds, char *cell)
{
	if (seconds >= DAY)
		snprintf(cell, CELL_MAX, "%lld-%02lld:%02lld:%02lld", seconds / DAY, seconds / 3600 % 24,
			 seconds / 60 % 60, seconds % 60);
	else
		snprintf(cell, CELL_MAX, "%02lld:%02lld:%02lld", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

static void print_time(const struct row *row, const char *member, char *cell)
{
	print_clock(number_of(row->process, member) / 1000, cell);
}

static void print_short_time(const struct row *row, const char *member, char *cell)
{
	long long seconds = number_of(row->process, member) / 1000;

	snprintf(cell, CELL_MAX, "%lld:%02lld", seconds / 60, seconds % 60);
}

static long long age_of(const struct row *row)
{
	long long age = (number_of(row->process, "now") - number_of(row->process, "start")) / 1000;

	return age > 0 ? age : 0;
}

static void print_age(const struct row *row, const char *member, char *cell)
{
	long long age = age_of(row);

	(void)member;
	if (age < 3600)
		snprintf(cell, CELL_MAX, "%02lld:%02lld", age / 60, age % 60);
	else
		print_clock(age, cell);
}

static void print_age_in_seconds(const struct row *row, const char *member, char *cell)
{
	(void)member;
	snprintf(cell, CELL_MAX, "%lld", age_of(row));
}

/* ps(1) "PROCESS STATE CODES": what goes before, the state, priority, leadership, threads, foreground. */
static void print_state(const struct row *row, const char *member, char *cell)
{
	const char *state = json_string_value(json_object_get(row->process, member));
	long long nice = number_of(row->process, "nice");

	snprintf(cell, CELL_MAX, "%.1s%s%s%s%s", state && *state ? state : "?",
		 nice < 0   ? "<"
		 : nice > 0 ? "N"
			    : "",
		 number_of(row->process, "sid") == number_of(row->process, "pid") ? "s" : "",
		 number_of(row->process, "threads") > 1 ? "l" : "",
		 json_is_true(json_object_get(row->process, "foreground")) ? "+" : "");
}

/* --- columns ----------------------------------------------------------------------------------------------------- */

struct ps_kind {
	const char *const *names; /* for -o, the first is its own; ended by NULL */
	const char *title;
	int width;    /* negative: flush left */
	bool is_text; /* of any length: the member's as it is */
	void (*print)(const struct row *row, const char *member, char *cell);
	const char *member; /* of the agent's answer */
};

#define NAMES(...)                                                                                                     \
	(const char *const[])                                                                                          \
	{                                                                                                              \
		__VA_ARGS__, NULL                                                                                      \
	}

static const struct ps_kind kinds[] = {
    {NAMES("pid", "tgid"), "PID", 7, false, print_number, "pid"},
    {NAMES("ppid"), "PPID", 7, false, print_number, "ppid"},
    {NAMES("pgid", "pgrp"), "PGID", 7, false, print_number, "pgid"},
    {NAMES("sid", "sess", "session"), "SID", 7, false, print_number, "sid"},
    {NAMES("user", "euser", "uname"), "USER", -8, false, print_user, "uid"},
    {NAMES("uid", "euid"), "UID", 5, false, print_number, "uid"},
    {NAMES("gid", "egid"), "GID", 5, false, print_number, "gid"},
    {NAMES("c"), "C", 2, false, print_c, "cpu"},
    {NAMES("%cpu", "pcpu"), "%CPU", 4, false, print_cpu, "cpu"},
    {NAMES("%mem", "pmem"), "%MEM", 4, false, print_memory, "resident"},
    {NAMES("vsz", "vsize"), "VSZ", 6, false, print_kib, "size"},
    {NAMES("rss", "rssize", "rsz"), "RSS", 5, false, print_kib, "resident"},
    {NAMES("ni", "nice"), "NI", 3, false, print_number, "nice"},
    {NAMES("nlwp", "thcount"), "NLWP", 4, false, print_number, "threads"},
    {NAMES("tty", "tname", "tt"), "TTY", -8, true, NULL, "tty"},
    {NAMES("stat"), "STAT", -4, false, print_state, "state"},
    {NAMES("s", "state"), "S", 1, true, NULL, "state"},
    {NAMES("stime", "start_time"), "STIME", -5, false, print_start, "start"},
    {NAMES("time", "cputime"), "TIME", 8, false, print_time, "cpu"},
    {NAMES("bsdtime"), "TIME", 6, false, print_short_time, "cpu"},
    {NAMES("etime"), "ELAPSED", 11, false, print_age, "start"},
    {NAMES("etimes"), "ELAPSED", 7, false, print_age_in_seconds, "start"},
    {NAMES("comm", "ucmd", "ucomm"), "COMMAND", -15, true, NULL, "name"},
    {NAMES("args", "command", "cmd"), "COMMAND", -27, true, NULL, "command"},
};

static const struct ps_kind *find_kind(const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		for (const char *const *known = kinds[i].names; *known; known++)
			if (strlen(*known) == length && strncmp(*known, name, length) == 0)
				return &kinds[i];
	return NULL;
}

/* --- options ----------------------------------------------------------------------------------------------------- */

#define FORMAT_FULL "user=UID,pid,ppid,c,stime,tty,time,args=CMD"
#define FORMAT_UNIX "pid,tty,time,comm=CMD"
#define FORMAT_JOBS "pid,pgid,sid,tty,time,comm=CMD"
#define FORMAT_BSD "pid,tty,stat,bsdtime,args"
#define FORMAT_USERS "user,pid,%cpu,%mem,vsz,rss,tty,stat,stime=START,bsdtime,args"

struct parsing {
	struct ps_format *format;
	char *const *next;
	bool full, jobs, bsd, users, given;
};

static int add_column(const char *text, size_t length, struct ps_format *format, struct error *err)
{
	const char *equals = memchr(text, '=', length);
	size_t name_length = equals ? (size_t)(equals - text) : length;
	const struct ps_kind *kind = find_kind(text, name_length);
	struct ps_column *column;

	if (!kind)
		return error_set(err, ENOTSUP, "ps: column \"%.*s\" is not supported", (int)name_length, text);
	if (format->n == PS_COLUMNS_MAX)
		return error_set(err, E2BIG, "ps: more than %d columns", PS_COLUMNS_MAX);
	column = &format->columns[format->n++];
	*column = (struct ps_column){kind, equals ? equals + 1 : kind->title, 0};
	column->title_length = equals ? (int)(length - name_length - 1) : (int)strlen(kind->title);
	return 0;
}

/* Names with commas or blanks between them. whole_titles: a title goes on to the end, as POSIX has it for -o. */
static int add_columns(const char *list, bool whole_titles, struct ps_format *format, struct error *err)
{
	while (*list) {
		size_t length = strcspn(list, ", ");

		if (length == 0) {
			list++;
			continue;
		}
		if (whole_titles && memchr(list, '=', length))
			length = strlen(list);
		if (add_column(list, length, format, err) < 0)
			return -1;
		list += length;
	}
	return 0;
}

static int take_list(struct parsing *parsing, const char *rest, struct error *err)
{
	if (*rest == '\0')
		rest = *parsing->next ? *parsing->next++ : "";
	if (*rest == '\0')
		return error_set(err, EINVAL, "ps: option o needs a list of columns");
	parsing->given = true;
	return add_columns(rest, true, parsing->format, err);
}

static int refuse(const char *dash, const char *letter, struct error *err)
{
	return error_set(
	    err, ENOTSUP,
	    "ps: option %s%.1s is not supported: the processes are the guest's, and the host's ps does not "
	    "know them",
	    dash, letter);
}

static int read_unix(struct parsing *parsing, const char *letters, struct error *err)
{
	for (; *letters; letters++) {
		if (*letters == 'o')
			return take_list(parsing, letters + 1, err);
		if (*letters == 'f')
			parsing->full = true;
		else if (*letters == 'j')
			parsing->jobs = true;
		else if (*letters == 'x')
			parsing->bsd = true;
		else if (!strchr("eAaw", *letters))
			return refuse("-", letters, err);
	}
	return 0;
}

static int read_bsd(struct parsing *parsing, const char *letters, struct error *err)
{
	parsing->bsd = true;
	for (; *letters; letters++) {
		if (*letters == 'o')
			return take_list(parsing, letters + 1, err);
		if (*letters == 'u')
			parsing->users = true;
		else if (*letters == 'h')
			parsing->format->no_titles = true;
		else if (!strchr("axgw", *letters))
			return refuse("", letters, err);
	}
	return 0;
}

static int read_long(struct parsing *parsing, const char *option, struct error *err)
{
	static const char *const bare[] = {"--no-headers", "--no-heading", "--noheaders", "--noheading", NULL};

	if (is_one_of(bare, option)) {
		parsing->format->no_titles = true;
		return 0;
	}
	if (strcmp(option, "--format") == 0)
		return take_list(parsing, "", err);
	if (strncmp(option, "--format=", 9) == 0)
		return take_list(parsing, option + 9, err);
	return error_set(err, ENOTSUP, "ps: option %s is not supported", option);
}

int ps_format_parse(char *const *options, struct ps_format *format, struct error *err)
{
	struct parsing parsing = {.format = format, .next = options, .full = !*options};
	const char *columns;

	*format = (struct ps_format){0};
	while (*parsing.next) {
		const char *option = *parsing.next++;
		int status = strncmp(option, "--", 2) == 0 ? read_long(&parsing, option, err)
			     : *option == '-'		   ? read_unix(&parsing, option + 1, err)
							   : read_bsd(&parsing, option, err);

		if (status < 0)
			return -1;
	}
	if (parsing.given)
		return 0;
	columns = parsing.users	 ? FORMAT_USERS
		  : parsing.full ? FORMAT_FULL
		  : parsing.jobs ? FORMAT_JOBS
		  : parsing.bsd	 ? FORMAT_BSD
				 : FORMAT_UNIX;
	return add_columns(columns, false, format, err);
}

/* --- the table --------------------------------------------------------------------------------------------------- */

/* Each cell but the last is as wide as its column, or wider. The guest chose some of these bytes, and a person's
 * terminal shows them. */
static void write_cell(const struct ps_format *format, size_t i, const char *text, int length, FILE *out)
{
	int width = format->columns[i].kind->width;
	int room = (width < 0 ? -width : width) - length;

	if (i > 0)
		fputc(' ', out);
	if (width > 0 && room > 0)
		fprintf(out, "%*s", room, "");
	for (int k = 0; k < length; k++)
		fputc((unsigned char)text[k] < 0x20 || text[k] == 0x7f ? '?' : text[k], out);
	if (width < 0 && room > 0 && i + 1 < format->n)
		fprintf(out, "%*s", room, "");
}

static void write_titles(const struct ps_format *format, FILE *out)
{
	bool any = false;

	for (size_t i = 0; i < format->n; i++)
		any = any || format->columns[i].title_length > 0;
	if (format->no_titles || !any)
		return;
	for (size_t i = 0; i < format->n; i++)
		write_cell(format, i, format->columns[i].title, format->columns[i].title_length, out);
	fputc('\n', out);
}

static void write_row(const struct ps_format *format, const struct row *row, FILE *out)
{
	for (size_t i = 0; i < format->n; i++) {
		const struct ps_kind *kind = format->columns[i].kind;
		const char *text;
		char cell[CELL_MAX];

		if (kind->is_text) {
			text = json_string_value(json_object_get(row->process, kind->member));
			text = text && *text ? text : "?";
		} else {
			kind->print(row, kind->member, cell);
			text = cell;
		}
		write_cell(format, i, text, (int)strlen(text), out);
	}
	fputc('\n', out);
}

void ps_format_write(const struct ps_format *format, const json_t *answer, FILE *out)
{
	struct row row = {.memory = number_of(answer, "memory")};
	const json_t *process;
	size_t index;

	write_titles(format, out);
	json_array_foreach(json_object_get(answer, "processes"), index, process)
	{
		row.process = process;
		write_row(format, &row, out);
	}
}

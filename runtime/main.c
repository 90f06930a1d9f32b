/*
 * hull: the OCI runtime command line.
 */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/spec_fields.h"
#include "runtime/command.h"
#include "runtime/output.h"
#include "runtime/report.h"
#include "runtime/streams.h"

#ifndef HULL_COMMIT
#define HULL_COMMIT "v" HULL_VERSION
#endif

#define FAILURE 1

static void format_flags(FILE *out, const struct flag *flags)
{
	for (const struct flag *flag = flags; flag && flag->name; flag++) {
		char left[64];

		snprintf(left, sizeof(left), "--%s%s%s%s%.1s", flag->name, flag->value_name ? " " : "",
			 flag->value_name ? flag->value_name : "", flag->letter ? ", -" : "", &flag->letter);
		fprintf(out, "  %-24s %s\n", left, flag->help);
	}
}

static int finish_text(FILE *out, char **text, struct error *err)
{
	if (fclose(out) != 0)
		return error_set_errno(err, "format the help text");
	return output_text(*text, err);
}

/* Laid out as the help of runc is, whose users and tests look for the name on the second line. */
static int print_help(struct error *err)
{
	cleanup_free char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return error_set_errno(err, "format the help text");
	fprintf(out,
		"NAME:\n   hull - Open Container Initiative runtime that gives each container a virtual machine of "
		"its own\n\n"
		"USAGE:\n   hull [global flags] VERB [flags] [arguments]\n\nCOMMANDS:\n");
	for (size_t i = 0; i < n_commands; i++)
		fprintf(out, "  %-24s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(out, "\nGLOBAL OPTIONS:\n");
	format_flags(out, global_flags);
	fprintf(out, "\n`hull VERB --help` says more about a verb.\n");
	return finish_text(out, &text, err);
}

static int print_command_help(const struct command *command, struct error *err)
{
	cleanup_free char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return error_set_errno(err, "format the help text");
	fprintf(out, "NAME:\n   hull %s - %s\n\nUSAGE:\n   hull %s%s%s\n\n%s\n", command->name, command->summary,
		command->name, command->arguments ? " " : "", command->arguments ? command->arguments : "",
		command->description);
	if (command->flags)
		fprintf(out, "\nOPTIONS:\n");
	format_flags(out, command->flags);
	return finish_text(out, &text, err);
}

static int print_version(struct error *err)
{
	return output_text("hull version " HULL_VERSION "\ncommit: " HULL_COMMIT "\nspec: " SPEC_VERSION "\n", err);
}

static const char *default_root(void)
{
	static char root[4096];
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0 || !runtime || !*runtime)
		return "/run/hull";
	snprintf(root, sizeof(root), "%s/hull", runtime);
	return root;
}

static int check_arguments(const struct command *command, int argc, struct error *err)
{
	if (argc >= command->min_arguments && argc <= command->max_arguments)
		return 0;
	if (command->min_arguments == command->max_arguments)
		return error_set(err, EINVAL, "hull: \"%s\" requires exactly %d argument(s)", command->name,
				 command->min_arguments);
	if (argc < command->min_arguments)
		return error_set(err, EINVAL, "hull: \"%s\" requires a minimum of %d argument(s)", command->name,
				 command->min_arguments);
	return error_set(err, EINVAL, "hull: \"%s\" requires a maximum of %d argument(s)", command->name,
			 command->max_arguments);
}

static int run_command(const struct command *command, const struct global_options *global, int argc, char **argv,
		       struct error *err)
{
	static const struct flag no_flags[] = {{0}};
	_Alignas(16) char options[COMMAND_OPTIONS_MAX] = {0};
	struct invocation invocation = {.global = global, .options = options};
	bool help = false;

	if (command->options_size > sizeof(options))
		return error_set(err, EOVERFLOW, "options of %s", command->name);
	if (command->defaults)
		memcpy(options, command->defaults, command->options_size);
	if (options_parse(command->flags ? command->flags : no_flags, command->order, &argc, argv, options, &help,
			  err) < 0)
		return -1;
	if (help)
		return print_command_help(command, err);
	if (check_arguments(command, argc, err) < 0)
		return -1;
	invocation.argc = argc;
	invocation.argv = argv;
	return command->run(&invocation, err);
}

static const struct command *find_command(const char *name)
{
	static const struct command *const own[] = {&command_proxy, &command_relay, &command_network};

	for (size_t i = 0; i < n_commands; i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	/* Called by hull itself. */
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (strcmp(own[i]->name, name) == 0)
			return own[i];
	return NULL;
}

static int refuse_verb(const char *name, struct error *err)
{
	/* runc's words. */
	return error_set(err, EINVAL, "No help topic for '%s' (see hull --help)", name);
}

static int run_help(int argc, char **argv, struct error *err)
{
	const struct command *command = argc > 0 ? find_command(argv[0]) : NULL;

	if (argc == 0)
		return print_help(err);
	return command ? print_command_help(command, err) : refuse_verb(argv[0], err);
}

static int dispatch(const struct global_options *global, int argc, char **argv, struct error *err)
{
	const struct command *command;

	if (argc == 0 || strcmp(argv[0], "help") == 0 || strcmp(argv[0], "h") == 0)
		return run_help(argc > 0 ? argc - 1 : 0, argv + 1, err);
	command = find_command(argv[0]);
	if (!command)
		return refuse_verb(argv[0], err);
	return run_command(command, global, argc - 1, argv + 1, err);
}

/* Every failure is a negative return whose value is the exit status, so that there is one place that reports. */
static int run_line(int argc, char **argv, struct error *err)
{
	struct global_options global = {.root = default_root(), .log_format = "text"};
	enum report_format format = REPORT_TEXT;
	bool help = false;

	if (options_parse(global_flags, OPTIONS_FIRST, &argc, argv, &global, &help, err) < 0)
		return -1;
	if (strcmp(global.log_format, "json") == 0)
		format = REPORT_JSON;
	if (report_open(global.log, format, global.debug, err) < 0)
		return -1;
	if (format == REPORT_TEXT && strcmp(global.log_format, "text") != 0)
		return error_set(err, EINVAL, "invalid log-format: %s", global.log_format);
	if (*global.root == '\0')
		return error_set(err, EINVAL, "--root must not be empty");
	if (help)
		return print_help(err);
	if (global.version)
		return print_version(err);
	return dispatch(&global, argc, argv, err);
}

/* Names in objects are hashed. The kernel has put random bytes at hand; by itself the library would read a device. */
static void seed_json(void)
{
	/* An address, which the auxiliary vector holds as a number. */
	unsigned long address = getauxval(AT_RANDOM);
	const size_t *random;

	memcpy(&random, &address, sizeof(random));
	json_object_seed(random ? *random : 0);
}

int main(int argc, char **argv)
{
	struct error err = {0};
	int status;

	/* A reader of our output who has gone away is an error of write, not a reason to die halfway through. */
	signal(SIGPIPE, SIG_IGN);
	/* Ignored by the caller, it would keep us from learning how our children end. */
	signal(SIGCHLD, SIG_DFL);
	if (stdio_fill_gaps(&err) < 0)
		return FAILURE;
	seed_json();
	status = run_line(argc - 1, argv + 1, &err);
	if (status >= 0)
		return status;
	report_error("%s", err.message);
	return -status;
}

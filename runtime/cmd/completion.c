/*
 * hull completion: a script for the shell that completes verbs, flags and ids; made from the tables of the command
 * line, so that it is never behind them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "runtime/command.h"
#include "runtime/output.h"

static void write_flags(FILE *out, const struct flag *flags, bool only_with_value)
{
	for (const struct flag *flag = flags; flag && flag->name; flag++) {
		if (only_with_value && flag->kind == FLAG_SWITCH)
			continue;
		fprintf(out, " --%s", flag->name);
		if (flag->letter)
			fprintf(out, " -%c", flag->letter);
	}
}

/* Words are cut at "=" by the shell as well, so that --flag=value completes like --flag value. */
static void write_script(FILE *out)
{
	fputs("_hull() {\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= i root=()\n"
	      "\tlocal with_value=\"",
	      out);
	write_flags(out, global_flags, true);
	fputs(" \"\n"
	      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	      "\t\tcase ${COMP_WORDS[i]} in\n"
	      "\t\t--root) root=(--root \"${COMP_WORDS[i+1]}\"); ((i++)) ;;\n"
	      "\t\t-*) [[ $with_value == *\" ${COMP_WORDS[i]} \"* ]] && ((i++)) ;;\n"
	      "\t\t*) verb=${COMP_WORDS[i]}; break ;;\n"
	      "\t\tesac\n"
	      "\tdone\n"
	      "\tlocal flags=\"\" takes_id=1\n"
	      "\twith_value=\"\"\n"
	      "\tcase $verb in\n",
	      out);
	for (size_t i = 0; i < n_commands; i++) {
		bool takes_id = commands[i]->arguments && strstr(commands[i]->arguments, "ID");

		fprintf(out, "\t%s)\n\t\tflags=\" --help", commands[i]->name);
		write_flags(out, commands[i]->flags, false);
		fputs("\"\n\t\twith_value=\"", out);
		write_flags(out, commands[i]->flags, true);
		fprintf(out, " \"\n%s\t\t;;\n", takes_id ? "" : "\t\ttakes_id=\n");
	}
	fputs("\t\"\")\n\t\tflags=\"--help", out);
	write_flags(out, global_flags, false);
	for (size_t i = 0; i < n_commands; i++)
		fprintf(out, " %s", commands[i]->name);
	fputs("\"\n\t\ttakes_id=\n\t\t;;\n"
	      "\tesac\n"
	      "\tif [[ -n $verb && $with_value == *\" $prev \"* ]]; then\n"
	      "\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	      "\telif [[ $cur == -* || -z $verb ]]; then\n"
	      "\t\tmapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$cur\")\n"
	      "\telif [[ -n $takes_id ]]; then\n"
	      "\t\tmapfile -t COMPREPLY < <(compgen -W \"$(\"${COMP_WORDS[0]}\" \"${root[@]}\" list --quiet "
	      "2>/dev/null)\" -- "
	      "\"$cur\")\n"
	      "\telse\n"
	      "\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	      "\tfi\n"
	      "}\n"
	      "complete -F _hull hull\n",
	      out);
}

static int run(const struct invocation *invocation, struct error *err)
{
	cleanup_free char *text = NULL;
	size_t size;
	FILE *out;

	if (strcmp(invocation->argv[0], "bash") != 0)
		return error_set(err, EINVAL, "completion: \"%s\" is not a shell that is known: bash",
				 invocation->argv[0]);
	out = open_memstream(&text, &size);
	if (!out)
		return error_set_errno(err, "format the script");
	write_script(out);
	if (fclose(out) != 0)
		return error_set_errno(err, "format the script");
	return output_text(text, err);
}

const struct command command_completion = {
    .name = "completion",
    .summary = "print a script that completes command lines",
    .arguments = "bash",
    .description = "Prints a script that completes hull's verbs, flags and containers: source it in ~/.bashrc.",
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};

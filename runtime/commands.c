#include "runtime/command.h"

extern const struct command command_checkpoint, command_completion, command_console, command_create, command_delete,
    command_doctor, command_events, command_exec, command_explain, command_features, command_kill, command_list,
    command_logs, command_pause, command_ps, command_restore, command_resume, command_run, command_spec, command_start,
    command_state, command_template, command_update;

const struct command *const commands[] = {
    &command_create,  &command_start,	   &command_run,      &command_exec,	 &command_ps,	      &command_pause,
    &command_resume,  &command_state,	   &command_kill,     &command_delete,	 &command_list,	      &command_update,
    &command_events,  &command_spec,	   &command_features, &command_doctor,	 &command_explain,    &command_logs,
    &command_console, &command_checkpoint, &command_restore,  &command_template, &command_completion,
};

const size_t n_commands = sizeof(commands) / sizeof(commands[0]);

const struct flag global_flags[] = {
    {"root", 0, FLAG_TEXT, offsetof(struct global_options, root), "DIR", "where the state of containers is kept"},
    {"log", 0, FLAG_TEXT, offsetof(struct global_options, log), "FILE", "append messages to FILE"},
    {"log-format", 0, FLAG_TEXT, offsetof(struct global_options, log_format), "FORMAT", "text (default) or json"},
    {"debug", 0, FLAG_SWITCH, offsetof(struct global_options, debug), NULL, "say more"},
    {"systemd-cgroup", 0, FLAG_SWITCH, offsetof(struct global_options, systemd_cgroup), NULL,
     "cgroups are scopes of systemd; cgroupsPath is slice:prefix:name"},
    {"cgroup-manager", 0, FLAG_TEXT, offsetof(struct global_options, cgroup_manager), "MANAGER",
     "as crun's: cgroupfs, systemd (the same as --systemd-cgroup) or disabled"},
    {"rootless", 0, FLAG_TEXT, offsetof(struct global_options, rootless), "VALUE",
     "ignore that cgroups cannot be made: true, false or auto (default: unless root)"},
    {"config", 0, FLAG_TEXT, offsetof(struct global_options, config), "FILE", "the configuration file"},
    {"criu", 0, FLAG_TEXT, offsetof(struct global_options, criu), "PATH", "accepted as by runc"},
    {"version", 'v', FLAG_SWITCH, offsetof(struct global_options, version), NULL, "print the version"},
    {"V", 0, FLAG_SWITCH, offsetof(struct global_options, version), NULL, "the same, as crun has it"},
    {0},
};

/*
 * What a container is to be, read out of config.json before anything is done. Making a plan touches nothing but memory;
 * carrying it out (rootfs.h, init.h) reads the plan and never the JSON.
 *
 * Strings belong to the JSON that the plan keeps a reference to, or to the plan.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "common/error.h"
#include "guest-agent/capabilities.h"
#include "guest-agent/device_filter.h"
#include "guest-agent/devices.h"
#include "guest-agent/hooks.h"
#include "guest-agent/id_maps.h"
#include "guest-agent/mount_options.h"
#include "guest-agent/namespaces.h"
#include "guest-agent/resources.h"
#include "guest-agent/schedule.h"
#include "guest-agent/syscall_filter.h"
#include "guest-agent/sysctl.h"

#define PLAN_SOCKET_PATH_SIZE 48

/* A unix socket of the host, see sockets.h. */
struct plan_socket {
	uid_t uid;
	gid_t gid;
	mode_t mode;
	bool is_notify;			  /* none of the host's, see notify.h */
	char path[PLAN_SOCKET_PATH_SIZE]; /* of the one that stands for it; set when that is made */
};

struct plan_mount {
	char *destination;	    /* clean, absolute */
	const char *source;	    /* as the spec has it: for messages, and shown in /proc/mounts */
	const char *type;	    /* file system; "bind" for a bind mount */
	const char *exported;	    /* bind mount: the export that is its source */
	const json_t *writable;	    /* bind mount: array of paths below it that stay writable, or NULL */
	unsigned long source_flags; /* bind mount: flags (MS_NOSUID...) of the host's mount that the source is on */
	bool is_socket;		    /* bind mount of a socket, instead of an export */
	struct plan_socket socket;
	struct mount_options options;
	char **data; /* the file system's own options, "name" or "name=value" */
	size_t n_data;
};

struct plan_rlimit {
	int resource;
	struct rlimit limit;
};

struct plan_process {
	char **args; /* ends with NULL, at least one */
	size_t n_args;
	char **env; /* ends with NULL; each holds "=", no name twice; room for one more */
	size_t n_env;
	const char *cwd;
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	size_t n_groups;
	mode_t umask;
	struct capabilities capabilities;
	struct plan_rlimit *rlimits;
	size_t n_rlimits;
	bool no_new_privileges;
	bool has_oom_score;
	int oom_score;
	struct schedule schedule;
	bool has_capabilities;
	bool terminal;
};

/* A terminal's window. 0 columns: the kernel's default. */
/* A stream of the host beside the three: a pipe of the guest, or a socket when it goes both ways. */
struct plan_preserved {
	uint32_t port; /* 0: /dev/null */
	bool in, out;  /* from the host, to the host */
};

#define PLAN_PRESERVED_MAX 32

struct plan_window {
	unsigned columns, rows;
};

#define PLAN_DEVICE_SOURCE_MAX 32

enum { PLAN_STDIN, PLAN_STDOUT, PLAN_STDERR };

struct plan {
	json_t *json; /* owns most strings */
	struct plan_process process;

	const char *rootfs;	    /* export, or NULL: */
	const char *rootfs_disk;    /* node of the disk that it is on */
	unsigned long rootfs_flags; /* of the host's mount that it is on */
	bool read_only;
	unsigned long propagate; /* as one of mount_options.propagate; 0: nothing */
	struct plan_mount *mounts;
	size_t n_mounts;
	char **masked;
	size_t n_masked;
	char **read_only_paths;
	size_t n_read_only_paths;

	const char *hostname;	/* NULL: stays */
	const char *domainname; /* NULL: stays */
	struct plan_namespaces namespaces;
	struct device_rule *device_rules; /* the spec's and, after them, those of the default devices */
	size_t n_device_rules;

	struct devices devices;
	char device_source[PLAN_DEVICE_SOURCE_MAX]; /* with a user namespace: where nodes are; the agent fills it in */
	struct id_maps id_maps;
	struct resources resources;
	bool writes_cgroup; /* it has a cgroup namespace to itself, and /sys/fs/cgroup is writable */
	struct sysctls sysctls;
	bool has_personality;
	unsigned long personality; /* of personality(2) */
	struct syscall_filter filter;
	struct hooks start_hooks;

	bool stands_for_machine; /* its end is the machine's */
	bool lingers;		 /* when the last of the others has ended as well */
	bool reports_oom;	 /* to the VMM */
	bool tied;		 /* it ends with the connection that the order came over */
	uint32_t stdio[3];	 /* host port of each stream; 0: /dev/null. Equal ports are one stream. Of
				  * a terminal, stderr is none. */
	struct plan_window window;
	struct plan_preserved *preserved; /* what it gets from descriptor 3 on */
	size_t n_preserved;

	json_t *warnings; /* array of texts: what the spec wants to be warned about rather than refused */
};

/* Reads a create order. Returns a plan for plan_free, or NULL with err. */
struct plan *plan_new(json_t *order, struct error *err);

/* Reads an exec order: only process, streams and window are filled in. */
struct plan *plan_new_exec(json_t *order, struct error *err);

/* What the process of an exec order leaves open is that of the container's: capabilities, rlimits, oomScoreAdj. Returns
 * 0 or -1. */
int plan_inherit(struct plan *exec, const struct plan *container, struct error *err);

/* The user namespace that is joined has these mappings: the spec says the same or nothing, and the process's ids are in
 * them. Returns 0, or -1 with err. */
int plan_join_id_maps(struct plan *plan, const struct id_maps *maps, struct error *err);

void plan_free(struct plan *plan);

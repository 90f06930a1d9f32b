/*
 * The folder of one container, ROOT/<id>/:
 *
 *   state.json  its record (state.h), replaced atomically
 *   control     the VMM's control socket
 *   fsd         the file server's control socket
 *   result      what the VMM wrote when it ended
 *   log         what the VMM and the file server have to say
 *   console     what the guest's kernel has to say, where that is kept
 *
 * Who changes the container holds an exclusive flock on the folder; the kernel releases it when that process dies.
 * Readers take no lock.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "runtime/state.h"

#define CONTAINER_STATE_FILE "state.json"
#define CONTAINER_CONTROL_SOCKET "control"
#define CONTAINER_FSD_SOCKET "fsd"
#define CONTAINER_RESULT_FILE "result"
#define CONTAINER_LOG_FILE "log"
#define CONTAINER_CONSOLE_FILE "console"

enum container_status {
	CONTAINER_CREATING,
	CONTAINER_CREATED,
	CONTAINER_RUNNING,
	CONTAINER_PAUSED,
	CONTAINER_STOPPED,
};

struct container {
	int root;   /* descriptor of ROOT */
	int folder; /* descriptor of ROOT/<id>; the lock is on it */
	char *id;
	bool has_state; /* false: the folder was left by a creation that was killed before it wrote one */
	struct state state;
};

void container_close(struct container *container);
#define cleanup_container __attribute__((cleanup(container_close)))
#define CONTAINER_NONE ((struct container){.root = -1, .folder = -1})

/* Makes ROOT/<id>/, locked and without a state. What a killed creation left under that id is cleaned up first. */
int container_make(const char *root, const char *id, struct container *container, struct error *err);

/* Opens an existing container and reads its state; ENOENT when there is none. */
int container_open(const char *root, const char *id, struct container *container, struct error *err);

/* The same without reading the state, for a container whose state is damaged. */
int container_open_unread(const char *root, const char *id, struct container *container, struct error *err);

/* Waits at most timeout_ms for the lock and reads the state again. */
int container_lock(struct container *container, int timeout_ms, struct error *err);

int container_save(struct container *container, struct error *err);

/* The truth of this moment: what the state says, and which processes live. */
enum container_status container_status(const struct container *container);
/* The same once the creation that may be under way has ended, for which it waits at most timeout_ms: a process that
 * `hull run` has started may have been heard of before that is recorded. Reads the state again. */
enum container_status container_settled_status(struct container *container, int timeout_ms);
const char *container_status_name(enum container_status status);

/* Ends what is left of the container's processes, takes it out of the sandbox that it has joined, and of a creation
 * that is under way, and waits until they are gone.
 */
int container_end_processes(struct container *container, struct error *err);

/* Runs the remembered hooks of a kind, poststart or poststop; their failures are warnings. */
void container_run_hooks(const struct container *container, const char *kind, const char *status, pid_t pid);

/* Removes the cgroup and the folder, and runs the poststop hooks. The lock must be held and the processes be gone. */
int container_remove(struct container *container, struct error *err);

/* Names of all containers below root, sorted; the caller frees the names and the array. A missing root has none. */
int container_list(const char *root, char ***ids, size_t *n, struct error *err);

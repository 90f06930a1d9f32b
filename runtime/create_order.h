/*
 * The create order to the agent (common/agent_protocol.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "runtime/disks.h"
#include "runtime/exports.h"
#include "runtime/preserve.h"
#include "runtime/spec.h"
#include "runtime/streams.h"
#include "runtime/syscall_filter.h"

/* Namespaces that containers of one sandbox can share, by the names that linux.namespaces[].type has for them. */
enum {
	SHARED_PID,
	SHARED_NETWORK,
	SHARED_IPC,
	SHARED_UTS,
	SHARED_CGROUP,
	SHARED_USER,
	SHARED_TIME,
	SHARED_KINDS,
};
extern const char *const shared_kind_names[SHARED_KINDS];

struct create_order {
	const char *id;
	const char *bundle;		  /* path of the folder, as hooks are told */
	bool machine;			  /* the container's end is the machine's */
	bool lingers;			  /* and that comes after the last of the others has ended */
	bool reports_oom;		  /* the machine hears of its processes killed for want of memory */
	bool notifies;			  /* it gets a NOTIFY_SOCKET, see notify.h */
	bool traced;			  /* the answer holds the steps */
	bool tied;			  /* it ends with the connection that the order goes over */
	const char *joined[SHARED_KINDS]; /* id of the container whose namespace it joins; NULL: as the spec says */
	const struct exports *exports;
	const struct disks *disks;   /* or NULL */
	unsigned ports[STDIO_COUNT]; /* 0: /dev/null */
	struct window window;	     /* of its terminal */
	const struct preserved *preserved;
	const struct syscall_filter *filter;
	const struct spec *spec;
};

/* The order as text of *size bytes, which the caller frees; NULL when there is no memory for it. */
char *create_order_format(const struct create_order *order, size_t *size);

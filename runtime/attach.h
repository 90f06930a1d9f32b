/*
 * Reaching the guest of a container that another hull process made.
 */
#pragma once

#include "common/error.h"
#include "runtime/container.h"
#include "runtime/watch.h"

struct attachment {
	int control;	    /* connection to the VMM */
	int agent;	    /* connection to the agent, or -1 */
	struct watch watch; /* of the machine */
};

#define ATTACHMENT_NONE ((struct attachment){.control = -1, .agent = -1, .watch = WATCH_NONE})

void attachment_release(struct attachment *attachment);
#define cleanup_attachment __attribute__((cleanup(attachment_release)))

/* Connects to the VMM of a live container: its own or that of its sandbox; seconds is the time that everything done
 * with the attachment may take. */
int attach(const struct container *container, unsigned seconds, struct attachment *attachment, struct error *err);

/* The same for a container that itself need not live, in a sandbox that does. */
int attach_sandbox(const struct container *container, unsigned seconds, struct attachment *attachment,
		   struct error *err);

/* Connects to the agent as well. */
int attach_agent(struct attachment *attachment, struct error *err);

/*
 * Templates: the frozen state of a guest that has booted and whose agent waits for its first order. A new machine of
 * the same shape is forked from one: its memory is the template's, shared copy-on-write, and it goes on where that
 * stood still.
 *
 * DIR/<name>/ holds the two files that the VMM saves (vmm/snapshot.h): `state`, and `memory`, which clones keep mapped.
 * DIR is /run/hull-templates, below $XDG_RUNTIME_DIR for users other than root, of mode 0700; all --root share it. A
 * template appears there complete, by a rename, and never changes afterwards; removing it does not touch the clones
 * that run.
 *
 * The name is a hash of the identity (which kernel, initramfs and command line), of the machine's size and of hull's
 * version, so that a template whose inputs have changed is not found any more. Whether what is found fits, this host's
 * CPU included, is for the VMM to say, which refuses it otherwise.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "runtime/config.h"
#include "runtime/machine.h"

#define TEMPLATE_ANNOTATION "hull.template" /* as the member "template" of the configuration file */

/* More than these are not kept; the oldest goes. Each holds some 25 MiB of memory. */
#define TEMPLATES_MAX 16

#define TEMPLATE_NAME_SIZE 17

struct template_key {
	char name[TEMPLATE_NAME_SIZE];
	char identity[200]; /* the VMM keeps it with the state */
};

/* What a machine of this size would be forked from. */
int template_identify(const struct resources *resources, const struct vm_size *size, struct template_key *key,
		      struct error *err);

/* Opens the template with that name. -1 with ENOENT when there is none, or it is older than max_age seconds (0: any age
 * will do); with another code when what is there cannot be trusted. */
int template_open(const char *name, unsigned max_age, struct template *template, struct error *err);

/* Takes the right to make templates, one at a time on this host: a descriptor that holds it. When somebody is making
 * one, waits for that, or returns -1. */
int template_lock(bool wait, struct error *err);

/* Boots a machine, freezes it and keeps it under the key's name, in place of an older one. The lock must be held. */
int template_make(const struct resources *resources, const struct vm_size *size, const struct template_key *key,
		  struct error *err);

/* Has a process of its own make the template, with low priority, unless somebody is at it. This process does not
 * wait for it. */
void template_make_later(const struct resources *resources, const struct vm_size *size);

/* Starts a machine from the template and has its agent answer. */
int template_verify(const struct resources *resources, const struct vm_size *size, const struct template_key *key,
		    struct error *err);

int template_remove(const char *name, struct error *err);

struct template_entry {
	char name[TEMPLATE_NAME_SIZE];
	int64_t made;	/* seconds since 1970 */
	uint64_t bytes; /* of both files */
	struct vm_size size;
};

/* All templates, the oldest first; the caller frees the array. A missing folder has none. */
int template_list(struct template_entry **entries, size_t *n, struct error *err);

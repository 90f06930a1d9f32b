/*
 * Where the other files of hull are. They are found from the place of the running program itself, so that a build tree
 * and an installation under any prefix both work without configuration: the programs beside it or in ../libexec/hull,
 * kernel and initramfs in ../share/hull. HULL_VMM, HULL_FSD, HULL_KERNEL and HULL_INITRAMFS each override one.
 */
#pragma once

#include <limits.h>

#include "common/error.h"

struct parts {
	char vmm[PATH_MAX];
	char fsd[PATH_MAX];
	char kernel[PATH_MAX];
	char initramfs[PATH_MAX];
};

/* Finds them; does not look whether kernel and initramfs exist. Returns 0 or -1. */
int parts_find(struct parts *parts, struct error *err);

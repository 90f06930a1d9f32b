/*
 * Puts kernel, initramfs, command line and what the 64-bit Linux boot protocol wants beside them into guest memory.
 * (Linux kernel, Documentation/x86/boot.rst, "64-bit Boot Protocol", and zero-page.rst)
 */
#pragma once

#include <stdint.h>

#include "common/error.h"
#include "vmm/memory.h"

#define COMMAND_LINE_MAX 2047 /* characters; what the kernel keeps (COMMAND_LINE_SIZE) */

/* Where things lie in guest-physical memory; all of it below 1 MiB, but for kernel and initramfs. */
#define BOOT_GDT 0x500u
#define BOOT_PARAMS 0x7000u
#define BOOT_PAGE_TABLES 0x9000u /* three pages */
#define BOOT_COMMAND_LINE 0x20000u
#define BOOT_SETUP_DATA 0x21000u
#define BOOT_MP_TABLE 0x9f000u /* to the end of conventional memory at 640 KiB */
#define BOOT_MP_POINTER 0x9fc00u
#define BOOT_HIGH_MEMORY 0x100000u

/* Selectors of the boot protocol. */
#define BOOT_CODE_SELECTOR 0x10
#define BOOT_DATA_SELECTOR 0x18
#define BOOT_TASK_SELECTOR 0x20
#define BOOT_GDT_ENTRIES 6 /* a task descriptor takes two */

struct boot_options {
	int kernel_fd, initramfs_fd; /* stay the caller's; the files must not change while the guest lives */
	const char *command_line;
	unsigned vcpu_count;
};

struct boot_image {
	uint64_t entry; /* where the first CPU starts */
};

/* Errors name the file or value that cannot be used. */
int boot_load(struct guest_memory *memory, const struct boot_options *options, struct boot_image *image,
	      struct error *err);

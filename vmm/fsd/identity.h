/*
 * As whom the file server creates files.
 *
 * A new object gets its owner, group and mode in the one system call that makes it: the file system ids and the umask
 * are those of the guest's process for that call. The capabilities stay in force whatever the ids are
 * (SECBIT_NO_SETUID_FIXUP, vmm/fsd/jail.c), and the guest's kernel has checked the permissions, so ids left over from
 * an earlier request change nothing for operations that create nothing: they are only switched when they differ.
 */
#pragma once

#include <stdint.h>

/* Takes over ids and umask for creating. 0, or -EPERM when the ids cannot be had (no privilege, a user namespace that
 * does not map them). */
int identity_assume(uint32_t uid, uint32_t gid, uint32_t mask);

/* Between these two, the kernel clears set-user-ID and set-group-ID bits as for a caller without CAP_FSETID. */
void identity_drop_fsetid(void);
void identity_restore_fsetid(void);

/*
 * What hull-fsd may call once it serves a guest.
 */
#include <seccomp.h>

#include "vmm/filter/rules.h"

#define ALLOWED(name)                                                                                                  \
	{                                                                                                              \
		.call = SCMP_SYS(name), .filters = 1                                                                   \
	}

static const struct filter_rule rules[] = {
    /* requests and answers, the log */
    ALLOWED(recvmsg), ALLOWED(recvfrom), ALLOWED(sendmsg), ALLOWED(write),
    /* waiting; the control socket's connections */
    ALLOWED(poll), ALLOWED(accept4), ALLOWED(futex),
    /* names */
    ALLOWED(openat), ALLOWED(close), ALLOWED(statx), ALLOWED(readlink), ALLOWED(readlinkat), ALLOWED(symlinkat),
    ALLOWED(mknodat), ALLOWED(mkdirat), ALLOWED(unlinkat), ALLOWED(renameat), ALLOWED(renameat2), ALLOWED(linkat),
    ALLOWED(getdents64),
    /* attributes */
    ALLOWED(chmod), ALLOWED(fchownat), ALLOWED(utimensat), ALLOWED(truncate), ALLOWED(ftruncate), ALLOWED(setxattr),
    ALLOWED(getxattr), ALLOWED(listxattr), ALLOWED(removexattr), ALLOWED(fstatfs),
    /* data */
    ALLOWED(lseek), ALLOWED(pread64), ALLOWED(pwritev2), ALLOWED(fallocate), ALLOWED(copy_file_range), ALLOWED(fsync),
    ALLOWED(fdatasync), ALLOWED(syncfs),
    /* as whom */
    ALLOWED(setfsuid), ALLOWED(setfsgid), ALLOWED(umask), ALLOWED(capget), ALLOWED(capset),
    /* the C library and the end */
    ALLOWED(clock_gettime), ALLOWED(brk), ALLOWED(munmap), ALLOWED(rt_sigreturn), ALLOWED(restart_syscall),
    ALLOWED(exit), ALLOWED(exit_group)};

static const char *const names[] = {"filter_server", NULL};

const struct filter_set fsd_filters = {
    .program = "fsd", .names = names, .rules = rules, .n = sizeof(rules) / sizeof(rules[0]), .tree = true};

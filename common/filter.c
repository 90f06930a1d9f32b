#include "common/filter.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int filter_load(const struct sock_filter *program, size_t n, struct error *err)
{
	struct sock_filter copy[FILTER_MAX];
	struct sock_fprog whole = {.len = (unsigned short)n, .filter = copy};

	if (n > FILTER_MAX)
		return error_set(err, E2BIG, "a system call filter of %zu instructions", n);
	memcpy(copy, program, n * sizeof(*program));
	for (size_t i = 0; i < n; i++)
		if (copy[i].code == (BPF_JMP | BPF_JEQ | BPF_K) && copy[i].k == FILTER_OWN_PID)
			copy[i].k = (unsigned)getpid();
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &whole) < 0)
		return error_set_errno(err, "load the system call filter");
	return 0;
}

/*
 * System calls at run time: write, poll.
 */
#include "vmm/oom.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"

#define WAIT_MS 5000
#define PAGE 4096u

/* --- the stand-in ------------------------------------------------------------------------------------------------ */

/* In strict mode exit_group, which _exit calls, is not allowed. */
static void __attribute__((noreturn)) leave(void)
{
	for (;;)
		syscall(SYS_exit, 0);
}

/* False when somebody else would be killed in its place. */
static bool become_first_choice(void)
{
	cleanup_close int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	char text[16] = "";

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0 || strtol(text, NULL, 10) > 0)
		return false;
	return pwrite(fd, "1000", 4, 0) == 4;
}

static bool confine(int socket, pid_t vmm)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != vmm)
		return false;
	prctl(PR_SET_NAME, "hull-oom");
	if (!become_first_choice())
		return false;
	if (dup2(socket, STDIN_FILENO) < 0 || close_range(STDIN_FILENO + 1, ~0u, 0) < 0)
		return false;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0;
}

static void use_memory(volatile uint8_t *memory, uint64_t most)
{
	for (uint64_t at = 0; at < most; at += PAGE)
		memory[at] = 1;
}

static void __attribute__((noreturn)) stand_in(int socket, pid_t vmm, uint64_t most)
{
	uint8_t *memory = mmap(NULL, most, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char byte;

	if (memory == MAP_FAILED || !confine(socket, vmm))
		_exit(0);
	/* The end of the socket is the machine's end. */
	if (read(STDIN_FILENO, &byte, 1) == 1)
		use_memory(memory, most);
	leave();
}

/* --- the VMM's side ---------------------------------------------------------------------------------------------- */

int oom_stand_in_start(struct oom_stand_in *stand_in_of, uint64_t most, struct error *err)
{
	pid_t vmm = getpid(), child;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set_errno(err, "make a socket pair");
	/* Nobody asks how it ended. */
	signal(SIGCHLD, SIG_IGN);
	child = fork();
	if (child == 0) {
		close(ends[0]);
		stand_in(ends[1], vmm, most);
	}
	close(ends[1]);
	if (child < 0) {
		close(ends[0]);
		return error_set_errno(err, "fork");
	}
	*stand_in_of = (struct oom_stand_in){.socket = ends[0]};
	return 0;
}

void oom_stand_in_use(struct oom_stand_in *stand_in_of)
{
	if (stand_in_of->socket < 0 || stand_in_of->used)
		return;
	/* It may have gone, where it would have been of no use. */
	stand_in_of->used = write(stand_in_of->socket, "", 1) == 1;
}

void oom_stand_in_wait(const struct oom_stand_in *stand_in_of)
{
	struct pollfd end = {.fd = stand_in_of->socket};

	if (stand_in_of->used)
		poll(&end, 1, WAIT_MS);
}

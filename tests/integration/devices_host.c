/*
 * Starts hull-vmm by itself, without `hull`, for devices.sh:
 *
 *   devices_host VMM KERNEL INITRAMFS TEST [DISK[,readonly]]
 *
 * stdin and stdout become the streams of ports 1040 and 1041, as blocking descriptors or, with NONBLOCKING in the
 * environment, opened anew. Prints the result line on stderr and ends with the VMM's exit status.
 */
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/vmm_arguments.h"

static int listening_socket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	/* An abstract name that the kernel chooses. */
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) < 0 || listen(fd, 4) < 0)
		err(125, "control socket");
	return fd;
}

static void add_disk(char *disk)
{
	char *readonly = strchr(disk, ',');

	if (readonly)
		*readonly = '\0';
	add_fd("--disk", open(disk, readonly ? O_RDONLY : O_RDWR), readonly ? ",readonly,serial=number-1" : "");
}

static void become_vmm(const char *vmm)
{
	int null = open("/dev/null", O_RDWR);

	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	execv(vmm, arguments);
	_exit(125);
}

int main(int argc, char **argv)
{
	bool nonblocking = getenv("NONBLOCKING");
	int in = nonblocking ? open("/proc/self/fd/0", O_RDONLY | O_NONBLOCK) : dup(0);
	int out = nonblocking ? open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK) : dup(1);
	int result = memfd_create("result", 0), status;
	char command_line[512], text[1024] = {0};
	pid_t pid;

	if (argc < 5)
		errx(125, "usage: devices_host VMM KERNEL INITRAMFS TEST [DISK[,readonly]]");
	snprintf(command_line, sizeof(command_line), "quiet panic=-1 reboot=t,f noreplace-smp swiotlb=noforce test=%s",
		 argv[4]);
	begin_vmm(argv[1], argv[2], argv[3], command_line, "134217728");
	add_fd("--control", listening_socket(), "");
	add_fd("--result", result, "");
	add_stream(1040, in, "in");
	add_stream(1041, out, "out");
	if (argc > 5)
		add_disk(argv[5]);
	pid = fork();
	if (pid == 0)
		become_vmm(argv[1]);
	/* Only the VMM holds them now: a reader sees their end when the VMM has gone. */
	close(in);
	close(out);
	close(0);
	close(1);
	if (waitpid(pid, &status, 0) != pid)
		err(125, "wait");
	if (pread(result, text, sizeof(text) - 1, 0) < 0)
		err(125, "result");
	fputs(text, stderr);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

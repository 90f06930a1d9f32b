/*
 * init of the guest that QEMU's microvm boots for comparison: does what a container of /bin/true comes to, then ends
 * the machine by a reset, which is QEMU's end with -no-reboot. With "idle" on the kernel's command line it sleeps
 * instead.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	pid_t child;

	if (argc > 1 && !strcmp(argv[argc - 1], "idle")) {
		for (;;)
			pause();
	}
	child = fork();
	if (!child) {
		execl("/bin/true", "true", NULL);
		_exit(1);
	}
	waitpid(child, NULL, 0);
	reboot(RB_AUTOBOOT);
	return 1;
}

/*
 * init of the guest whose root file system QEMU's virtiofsd serves: mounts it, runs one case of
 * tests/bench/files_guest.sh in it, and ends the machine by a reset, which is QEMU's end with -no-reboot. The kernel
 * hands over what follows "--" on its command line: CASE DIRECTORY RESULT.
 */
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

static int enter_root(void)
{
	if (mount("bench", "/mnt", "virtiofs", 0, NULL) < 0 || chdir("/mnt") < 0)
		return -1;
	if (mount("proc", "proc", "proc", 0, NULL) < 0 || mount("sysfs", "sys", "sysfs", 0, NULL) < 0 ||
	    mount("devtmpfs", "dev", "devtmpfs", 0, NULL) < 0 || mount("tmpfs", "tmp", "tmpfs", 0, NULL) < 0)
		return -1;
	return chroot(".");
}

int main(int argc, char **argv)
{
	char *arguments[] = {"bash", "/files_guest.sh", NULL, NULL, NULL, NULL};
	char *environment[] = {"PATH=/usr/bin:/bin", NULL};
	pid_t child;

	for (int i = 1; i < argc && i < 4; i++)
		arguments[i + 1] = argv[i];
	if (enter_root() == 0) {
		child = fork();
		if (!child) {
			execve("/usr/bin/bash", arguments, environment);
			_exit(1);
		}
		waitpid(child, NULL, 0);
		sync();
	}
	reboot(RB_AUTOBOOT);
	return 1;
}

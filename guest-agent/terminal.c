#include "guest-agent/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "guest-agent/path.h"

void terminal_close(struct terminal *terminal)
{
	cleanup_close_fd(&terminal->master);
	cleanup_close_fd(&terminal->slave);
	*terminal = TERMINAL_NONE;
}

/* Whatever the container's image has there must not be opened for long if it is something else: a fifo would block. */
static int open_multiplexer(int root, struct error *err)
{
	cleanup_close int fd = path_open(root, "/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
	struct stat status;

	if (fd < 0)
		return error_set_errno(err, "open /dev/ptmx");
	if (fstat(fd, &status) < 0 || !S_ISCHR(status.st_mode) || status.st_rdev != makedev(5, 2))
		return error_set(err, ENODEV, "open /dev/ptmx: it is not the terminal multiplexer");
	return take_fd(&fd);
}

int terminal_open(int root, uid_t user, struct terminal *terminal, struct error *err)
{
	int unlocked = 0;

	*terminal = TERMINAL_NONE;
	terminal->master = open_multiplexer(root, err);
	if (terminal->master < 0)
		return -1;
	if (ioctl(terminal->master, TIOCSPTLCK, &unlocked) < 0)
		return error_set_errno(err, "unlock the terminal");
	terminal->slave = ioctl(terminal->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (terminal->slave < 0)
		return error_set_errno(err, "open the terminal");
	/* Its group stays that of devpts (the option gid). */
	if (fchown(terminal->slave, user, (gid_t)-1) < 0)
		return error_set_errno(err, "give the terminal to its user");
	return 0;
}

int terminal_mount_console(int root, const struct terminal *terminal, struct error *err)
{
	cleanup_close int target = path_make_file(root, "/dev/console", err);
	cleanup_close int tree = -1;

	if (target < 0)
		return -1;
	tree = open_tree(terminal->slave, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 || move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return error_set_errno(err, "mount /dev/console");
	return 0;
}

int terminal_take(const struct terminal *terminal, struct error *err)
{
	if (ioctl(terminal->slave, TIOCSCTTY, 0) < 0)
		return error_set_errno(err, "take the terminal");
	for (int i = 0; i < 3; i++)
		if (dup2(terminal->slave, i) < 0)
			return error_set_errno(err, "dup2");
	return 0;
}

/* Locks, leases, sockets, fifos, and many open files. */
#include "tests/integration/fsops/fsops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static long lock(int fd, int command, short type, off_t start, off_t length)
{
	struct flock request = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

	return fcntl(fd, command, &request) < 0 ? -1 : request.l_type;
}

static void locks(void)
{
	int fd, other, status;
	pid_t pid;

	make_file("k.file", "locked", 0666);
	chmod("k.file", 0666);
	fd = OPEN(open("k.file", O_RDWR));
	other = OPEN(open("k.file", O_RDWR));
	OP(flock(fd, LOCK_EX | LOCK_NB));
	OP(flock(other, LOCK_SH | LOCK_NB));
	OP(flock(fd, LOCK_SH));
	OP(flock(other, LOCK_SH | LOCK_NB));
	OP(flock(other, LOCK_EX | LOCK_NB));
	OP(flock(fd, LOCK_UN));
	OP(flock(other, LOCK_EX | LOCK_NB));
	OP(flock(other, LOCK_UN));
	OP(lock(fd, F_SETLK, F_WRLCK, 0, 10));
	OP(lock(other, F_OFD_SETLK, F_WRLCK, 5, 10));
	AS_USER
	{
		int mine = open("k.file", O_RDWR);

		OP(lock(mine, F_SETLK, F_WRLCK, 5, 1));
		OP(lock(mine, F_SETLK, F_RDLCK, 0, 0));
		OP(lock(mine, F_SETLK, F_WRLCK, 10, 5));
		OP(lock(mine, F_GETLK, F_WRLCK, 0, 0));
	}
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		int mine = open("k.file", O_RDWR);

		_exit(lock(mine, F_SETLKW, F_WRLCK, 0, 10) < 0);
	}
	usleep(50000);
	OP(lock(fd, F_SETLK, F_UNLCK, 0, 0));
	OP(waitpid(pid, &status, 0) == pid);
	OP(status);
	OP(lock(other, F_OFD_SETLK, F_WRLCK, 5, 10));
	OP(lock(fd, F_OFD_SETLK, F_WRLCK, 5, 10));
	close(other);
	OP(lock(fd, F_OFD_SETLK, F_WRLCK, 5, 10));
	OP(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND));
	OP(fcntl(fd, F_SETPIPE_SZ, 4096));
	OP(isatty(fd));
	close(fd);
}

static void sockets_and_fifos(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "n.socket"};
	int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0), fd, other;
	char data[10];

	OP(bind(server, (void *)&address, sizeof(address)));
	show("n.socket");
	OP(connect(client, (void *)&address, sizeof(address)));
	OP(listen(server, 1));
	OP(connect(client, (void *)&address, sizeof(address)));
	OP(open("n.socket", O_RDWR));
	OP(bind(client, (void *)&address, sizeof(address)));
	OP(unlink("n.socket"));
	close(server);
	close(client);
	OP(mkfifo("n.fifo", 0600));
	OP(open("n.fifo", O_WRONLY | O_NONBLOCK));
	fd = OPEN(open("n.fifo", O_RDONLY | O_NONBLOCK));
	other = OPEN(open("n.fifo", O_WRONLY | O_NONBLOCK));
	OP(write(other, "fifo", 4));
	OP(read(fd, data, 10));
	OP(lseek(fd, 0, SEEK_SET));
	OP(unlink("n.fifo"));
	OP(write(other, "more", 4));
	OP(read(fd, data, 10));
}

static void many_open(void)
{
	static int fds[400];
	struct rlimit limit;
	unsigned opened = 0, right = 0;
	char path[32], data[16];

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	mkdir("o", 0755);
	for (unsigned i = 0; i < 400; i++) {
		snprintf(path, sizeof(path), "o/%u", i);
		fds[i] = open(path, O_RDWR | O_CREAT, 0644);
		opened += fds[i] >= 0;
		(void)!write(fds[i], path, strlen(path));
	}
	OP(opened);
	for (unsigned i = 0; i < 400; i++) {
		snprintf(path, sizeof(path), "o/%u", i);
		unlink(path);
		right += pread(fds[i], data, sizeof(data), 0) == (ssize_t)strlen(path) &&
			 memcmp(data, path, strlen(path)) == 0;
	}
	OP(right);
	for (unsigned i = 0; i < 400; i++)
		close(fds[i]);
	OP(rmdir("o"));
}

void try_locks(void)
{
	locks();
	sockets_and_fifos();
	many_open();
}

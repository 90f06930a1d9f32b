#include "tests/integration/fsops/fsops.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

unsigned line_number;

void print_result(long result, int error)
{
	if (result < 0)
		printf(" = -1 %s", strerrorname_np(error) ? strerrorname_np(error) : "?");
	else
		printf(" = %ld", result);
}

void start_line(const char *format, ...)
{
	va_list args;

	printf("%03u ", ++line_number);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
}

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "chr";
	case S_IFBLK:
		return "blk";
	default:
		return "?";
	}
}

static void print_stat(const struct stat *st)
{
	printf(" %s %04o links %u owner %u:%u", type_name(st->st_mode), st->st_mode & 07777, (unsigned)st->st_nlink,
	       st->st_uid, st->st_gid);
	if (S_ISREG(st->st_mode) || S_ISLNK(st->st_mode))
		printf(" size %lld", (long long)st->st_size);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		printf(" device %u,%u", major(st->st_rdev), minor(st->st_rdev));
	putchar('\n');
}

void show(const char *path)
{
	struct stat st;

	start_line("lstat %.60s", path);
	if (lstat(path, &st) < 0)
		printf(" %s\n", strerrorname_np(errno));
	else
		print_stat(&st);
}

void show_fd(const char *what, int fd)
{
	struct stat st;

	start_line("fstat %s", what);
	if (fstat(fd, &st) < 0)
		printf(" %s\n", strerrorname_np(errno));
	else
		print_stat(&st);
}

void show_content(const char *path)
{
	char data[200];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof(data));

	start_line("content %s:", path);
	if (n < 0)
		printf(" %s", strerrorname_np(errno));
	for (ssize_t i = 0; i < n; i++)
		printf(data[i] >= ' ' && data[i] < 127 ? "%c" : "\\%02x", (unsigned char)data[i]);
	putchar('\n');
	if (fd >= 0)
		close(fd);
}

long write_one_byte(const char *path)
{
	int fd = open(path, O_WRONLY);
	long result = write(fd, "x", 1);

	close(fd);
	return result;
}

void make_file(const char *path, const char *content, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, content, strlen(content)) < 0 || fchmod(fd, mode) < 0)
		printf("# make_file %s: %s\n", path, strerror(errno));
	close(fd);
}

bool as_user(void)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		gid_t groups[] = {2000};

		if (setgroups(1, groups) < 0 || setresgid(GROUP, GROUP, GROUP) < 0 || setresuid(USER, USER, USER) < 0)
			puts("# cannot become a user");
		return true;
	}
	waitpid(pid, &status, 0);
	if (!WIFEXITED(status))
		printf("# the user's process died: %d\n", status);
	else
		line_number += (unsigned)WEXITSTATUS(status);
	return false;
}

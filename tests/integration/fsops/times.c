/* Which times change with what. */
#include "tests/integration/fsops/fsops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static struct stat before;

static void remember(const char *path)
{
	stat(path, &before);
	usleep(20000);
}

static bool differ(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec || a.tv_nsec != b.tv_nsec;
}

static void show_changes(const char *what, const char *path)
{
	struct stat now;

	start_line("%s changes", what);
	if (stat(path, &now) < 0)
		printf(" %s", strerrorname_np(errno));
	else
		printf("%s%s", differ(now.st_mtim, before.st_mtim) ? " mtime" : "",
		       differ(now.st_ctim, before.st_ctim) ? " ctime" : "");
	putchar('\n');
}

#define CHANGES(path, expression) (remember(path), (void)!(expression), show_changes(#expression, path))

static void show_times(const char *path)
{
	struct stat st;

	start_line("times of %s:", path);
	if (lstat(path, &st) < 0)
		printf(" %s\n", strerrorname_np(errno));
	else
		printf(" atime %lld.%09ld mtime %lld.%09ld\n", (long long)st.st_atim.tv_sec, st.st_atim.tv_nsec,
		       (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

void try_times(void)
{
	int fd;

	make_file("t.file", "content", 0644);
	mkdir("t.dir", 0755);
	OP(symlink("t.file", "t.link"));
	OP(utimensat(AT_FDCWD, "t.file", (struct timespec[2]){{1000000000, 123456789}, {1234567890, 987654321}}, 0));
	show_times("t.file");
	OP(utimensat(AT_FDCWD, "t.link", (struct timespec[2]){{5, 6}, {7, 8}}, AT_SYMLINK_NOFOLLOW));
	show_times("t.link");
	show_times("t.file");
	OP(utimensat(AT_FDCWD, "t.file", (struct timespec[2]){{0, UTIME_OMIT}, {42, 43}}, 0));
	show_times("t.file");
	OP(utimensat(AT_FDCWD, "t.file", (struct timespec[2]){{44, 45}, {0, UTIME_OMIT}}, 0));
	show_times("t.file");
	OP(utimensat(AT_FDCWD, "t.file", (struct timespec[2]){{0, UTIME_OMIT}, {0, UTIME_OMIT}}, 0));
	show_times("t.file");
	OP(utimensat(AT_FDCWD, "t.file", (struct timespec[2]){{-1, 500000000}, {-100, 1}}, 0));
	show_times("t.file");
	OP(utimensat(AT_FDCWD, "t.file", (struct timespec[2]){{4102444800, 0}, {4102444800, 0}}, 0));
	show_times("t.file");
	OP(utimensat(AT_FDCWD, "t.file", (struct timespec[2]){{1, 1000000000}, {1, 0}}, 0));
	OP(utimensat(AT_FDCWD, "t.dir", (struct timespec[2]){{9, 9}, {9, 9}}, 0));
	show_times("t.dir");
	CHANGES("t.file", utimensat(AT_FDCWD, "t.file", (struct timespec[2]){{0, UTIME_NOW}, {0, UTIME_OMIT}}, 0));
	CHANGES("t.file", utimensat(AT_FDCWD, "t.file", (struct timespec[2]){{0, UTIME_OMIT}, {0, UTIME_NOW}}, 0));
	CHANGES("t.file", utimensat(AT_FDCWD, "t.file", NULL, 0));
	CHANGES("t.file", chmod("t.file", 0644));
	CHANGES("t.file", chown("t.file", 0, 0));
	CHANGES("t.file", chown("t.file", (uid_t)-1, (gid_t)-1));
	CHANGES("t.file", link("t.file", "t.hard"));
	CHANGES("t.file", rename("t.hard", "t.hard2"));
	CHANGES("t.file", unlink("t.hard2"));
	CHANGES("t.file", truncate("t.file", 7));
	CHANGES("t.file", truncate("t.file", 5));
	CHANGES("t.file", setxattr("t.file", "user.t", "1", 1, 0));
	CHANGES("t.file", removexattr("t.file", "user.t"));
	CHANGES("t.file", removexattr("t.file", "user.t"));
	CHANGES("t.file", access("t.file", R_OK));
	CHANGES("t.file", close(open("t.file", O_RDWR)));
	CHANGES("t.file", close(open("t.file", O_RDWR | O_TRUNC)));
	fd = open("t.file", O_RDWR);
	CHANGES("t.file", write(fd, "abc", 3));
	CHANGES("t.file", write(fd, "", 0));
	CHANGES("t.file", pwrite(fd, "def", 3, 100));
	CHANGES("t.file", ftruncate(fd, 50));
	CHANGES("t.file", ftruncate(fd, 50));
	CHANGES("t.file", fallocate(fd, 0, 0, 8192));
	CHANGES("t.file", fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 65536));
	CHANGES("t.file", fsync(fd));
	close(fd);
	CHANGES("t.dir", mkdir("t.dir/sub", 0755));
	CHANGES("t.dir", close(open("t.dir/file", O_CREAT | O_WRONLY, 0644)));
	CHANGES("t.dir", chmod("t.dir/file", 0600));
	CHANGES("t.dir", rename("t.dir/file", "t.dir/file2"));
	CHANGES("t.dir", symlink("x", "t.dir/link"));
	CHANGES("t.dir", link("t.dir/file2", "t.dir/file3"));
	CHANGES("t.dir", rmdir("t.dir/sub"));
	CHANGES("t.dir", rmdir("t.dir/none"));
	CHANGES("t.dir", unlink("t.dir/file2"));
	CHANGES("t.dir", rename("t.dir/file3", "t.out"));
	CHANGES("t.dir", mkfifo("t.dir/fifo", 0600));
}

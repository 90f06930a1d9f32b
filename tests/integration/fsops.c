/*
 * Several hundred file operations in a directory, one line each: what was done, what came back, and what the file then
 * looks like. No line holds a time, an inode number or anything else that differs between two runs, so that two
 * implementations of a file system are compared by diff.
 *
 *   fsops DIRECTORY       DIRECTORY is made and must not exist; it is left behind for a look from the other side
 *
 * To be run as root with the capabilities that a container of an engine has (not CAP_SYS_ADMIN).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define USER 1000
#define GROUP 1000

static unsigned line_number;

static void print_result(long result, int error)
{
	if (result < 0)
		printf(" = -1 %s", strerrorname_np(error) ? strerrorname_np(error) : "?");
	else
		printf(" = %ld", result);
}

static void start_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void start_line(const char *format, ...)
{
	va_list args;

	printf("%03u ", ++line_number);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
}

/* One operation: its text, its result. Evaluates to the result. */
#define OP(expression)                                                                                                 \
	({                                                                                                             \
		errno = 0;                                                                                             \
		long result_ = (long)(expression);                                                                     \
		int error_ = errno;                                                                                    \
		start_line("%s", #expression);                                                                         \
		print_result(result_, error_);                                                                         \
		putchar('\n');                                                                                         \
		result_;                                                                                               \
	})

/* The same for operations in a loop: the text says what differs. */
#define OP_AS(text, expression)                                                                                        \
	({                                                                                                             \
		errno = 0;                                                                                             \
		long result_ = (long)(expression);                                                                     \
		int error_ = errno;                                                                                    \
		start_line("%s", text);                                                                                \
		print_result(result_, error_);                                                                         \
		putchar('\n');                                                                                         \
		result_;                                                                                               \
	})

/* An operation that opens a file: the number of the descriptor says nothing. */
#define OPEN(expression)                                                                                               \
	({                                                                                                             \
		errno = 0;                                                                                             \
		int fd_ = (expression);                                                                                \
		int error_ = errno;                                                                                    \
		start_line("%s", #expression);                                                                         \
		print_result(fd_ < 0 ? -1 : 0, error_);                                                                \
		putchar('\n');                                                                                         \
		fd_;                                                                                                   \
	})

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

static void show(const char *path)
{
	struct stat st;

	start_line("lstat %.60s", path);
	if (lstat(path, &st) < 0)
		printf(" %s\n", strerrorname_np(errno));
	else
		print_stat(&st);
}

static void show_fd(const char *what, int fd)
{
	struct stat st;

	start_line("fstat %s", what);
	if (fstat(fd, &st) < 0)
		printf(" %s\n", strerrorname_np(errno));
	else
		print_stat(&st);
}

static void show_content(const char *path)
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

static long write_one_byte(const char *path)
{
	int fd = open(path, O_WRONLY);
	long result = write(fd, "x", 1);

	close(fd);
	return result;
}

static void make_file(const char *path, const char *content, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, content, strlen(content)) < 0 || fchmod(fd, mode) < 0)
		printf("# make_file %s: %s\n", path, strerror(errno));
	close(fd);
}

/* Runs the following block in a process of an ordinary user (group GROUP and 2000). */
static bool as_user(void)
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

#define AS_USER for (unsigned before_ = line_number; as_user(); fflush(stdout), _exit((int)(line_number - before_)))

/* --- kinds of files --------------------------------------------------------------------------------------------------
 */

static const char *const kinds[] = {"file", "directory", "symlink", "fifo", "socket", "chr", "blk", "dangling"};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static int make_kind(unsigned kind, const char *path)
{
	int fd;

	switch (kind) {
	case 0:
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
		return fd < 0 ? -1 : close(fd);
	case 1:
		return mkdir(path, 0755);
	case 2:
		return symlink("target", path);
	case 3:
		return mkfifo(path, 0644);
	case 4:
		return mknod(path, S_IFSOCK | 0644, 0);
	case 5:
		return mknod(path, S_IFCHR | 0644, makedev(1, 3));
	case 6:
		return mknod(path, S_IFBLK | 0644, makedev(240, 300));
	default:
		return symlink("nowhere", path);
	}
}

static int remove_kind(const char *path)
{
	return unlink(path) == 0 || rmdir(path) == 0 ? 0 : -1;
}

static void each_kind(void)
{
	char text[100], path[32], second[40], back[200];

	make_file("target", "target", 0644);
	for (unsigned kind = 0; kind < KINDS; kind++) {
		const char *name = kinds[kind];

		snprintf(path, sizeof(path), "kind.%s", name);
		snprintf(second, sizeof(second), "%s.2", path);
#define EACH(what, expression) (snprintf(text, sizeof(text), "%s: %s", name, what), OP_AS(text, expression))
		EACH("make", make_kind(kind, path));
		show(path);
		EACH("make again", make_kind(kind, path));
		EACH("chmod 4751", chmod(path, 04751));
		show(path);
		EACH("lchown 5:6", lchown(path, 5, 6));
		show(path);
		EACH("lchown -1:7", lchown(path, (uid_t)-1, 7));
		show(path);
		EACH("link", link(path, second));
		show(path);
		EACH("unlink the link", unlink(second));
		EACH("rename", rename(path, second));
		show(path);
		EACH("rename back", rename(second, path));
		show(path);
		EACH("lsetxattr user", lsetxattr(path, "user.test", "value", 5, 0));
		EACH("lgetxattr user", lgetxattr(path, "user.test", back, sizeof(back)));
		EACH("llistxattr", llistxattr(path, back, sizeof(back)));
		EACH("lgetxattr acl", lgetxattr(path, "system.posix_acl_access", back, sizeof(back)));
		EACH("truncate 10", truncate(path, 10));
		EACH("access R_OK", access(path, R_OK));
		EACH("access X_OK", access(path, X_OK));
		EACH("readlink", readlink(path, back, sizeof(back)));
		EACH("open O_PATH O_NOFOLLOW", ({
			     int fd = open(path, O_PATH | O_NOFOLLOW);
			     fd < 0 ? -1 : close(fd);
		     }));
		EACH("open O_NOFOLLOW O_NONBLOCK", ({
			     int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
			     fd < 0 ? -1 : close(fd);
		     }));
		EACH("open O_DIRECTORY", ({
			     int fd = open(path, O_RDONLY | O_DIRECTORY);
			     fd < 0 ? -1 : close(fd);
		     }));
		EACH("open O_CREAT O_EXCL", open(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
		EACH("rmdir", rmdir(path));
		EACH("unlink", unlink(path));
		show(path);
		remove_kind(path);
	}
	unlink("target");
}

static void rename_kinds(void)
{
	char text[100];

	for (unsigned from = 0; from < 7; from++)
		for (unsigned to = 0; to < 7; to++) {
			snprintf(text, sizeof(text), "rename %s over %s", kinds[from], kinds[to]);
			make_kind(from, "r.from");
			make_kind(to, "r.to");
			OP_AS(text, rename("r.from", "r.to"));
			remove_kind("r.from");
			remove_kind("r.to");
		}
}

/* --- names
 * ------------------------------------------------------------------------------------------------------------ */

static void long_names(void)
{
	static char name[NAME_MAX + 2], path[2 * PATH_MAX], target[PATH_MAX + 1], back[PATH_MAX + 10];
	int fd;

	memset(name, 'n', NAME_MAX);
	OP(mkdir(name, 0755));
	OP(rmdir(name));
	name[NAME_MAX] = 'n';
	OP(mkdir(name, 0755));
	OP(open(name, O_RDONLY));
	OP(symlink(name, "link.to.long"));
	OP(open("link.to.long", O_RDONLY));
	OP(unlink("link.to.long"));
	OP(rename(name, "x"));
	OP(unlink(name));
	memset(path, 'p', sizeof(path) - 1);
	OP(mkdir(path, 0755));
	memset(target, 't', PATH_MAX - 1);
	OP(symlink(target, "longest.link"));
	OP(readlink("longest.link", back, sizeof(back)));
	OP(readlink("longest.link", back, 10));
	OP(memcmp(target, back, 10));
	show("longest.link");
	OP(unlink("longest.link"));
	target[PATH_MAX - 1] = 't';
	OP(symlink(target, "too.long.link"));
	OP(symlink("", "empty.link"));
	OP(mkdir("", 0755));
	OP(mkdir(".", 0755));
	OP(mkdir("..", 0755));
	OP(rmdir("."));
	OP(rmdir("no/.."));
	OP(rename(".", "x"));
	OP(rename("..", "x"));
	fd = OPEN(open("name with spaces \xc3\xa9 \xff\n*", O_WRONLY | O_CREAT, 0644));
	close(fd);
	OP(access("name with spaces \xc3\xa9 \xff\n*", F_OK));
	OP(unlink("name with spaces \xc3\xa9 \xff\n*"));
}

static void paths(void)
{
	make_file("p.file", "x", 0644);
	OP(mkdir("p.dir", 0755));
	OP(mkdir("p.dir/sub", 0755));
	OP(open("p.file/x", O_RDONLY));
	OP(mkdir("p.file/x", 0755));
	OP(open("p.none/x", O_RDONLY));
	OP(mkdir("p.none/x", 0755));
	OP(open("p.file/", O_RDONLY));
	OP(rename("p.file", "p.dir/"));
	OP(rename("p.dir", "p.dir/sub/x"));
	OP(rename("p.dir/sub", "p.dir"));
	OP(rename("p.dir", "p.file"));
	OP(rmdir("p.dir"));
	OP(unlink("p.dir"));
	OP(unlink("p.none"));
	OP(link("p.dir", "p.dir.link"));
	OP(link("p.none", "p.x"));
	OP(link("p.file", "p.file"));
	OP(rename("p.file", "p.file"));
	OP(symlink("p.loop2", "p.loop1"));
	OP(symlink("p.loop1", "p.loop2"));
	OP(open("p.loop1", O_RDONLY));
	OP(access("p.loop1/x", F_OK));
	OP(chmod("p.loop1", 0600));
	OP(symlink("p.dir/..//p.dir/sub/../../p.file", "p.maze"));
	show_content("p.maze");
	OP(symlink("/proc/self/cwd/p.file", "p.absolute"));
	show_content("p.absolute");
	OP(link("p.maze", "p.maze.hard"));
	show("p.maze.hard");
	OP(linkat(AT_FDCWD, "p.maze", AT_FDCWD, "p.followed", AT_SYMLINK_FOLLOW));
	show("p.followed");
	OP(open("p.dir", O_WRONLY));
	OP(open("p.dir", O_RDWR));
	OP(open("p.dir", O_RDONLY | O_CREAT, 0644));
	OP(open("p.dir/", O_WRONLY | O_CREAT, 0644));
	OP(open("p.new/", O_WRONLY | O_CREAT, 0644));
	OP(mkdir("p.slash/", 0755));
	OP(rmdir("p.slash/"));
	OP(mknod("p.sockdir", S_IFDIR | 0755, 0));
	OP(mknod("p.regular", S_IFREG | 0640, 0));
	show("p.regular");
	OP(chdir("p.dir/sub"));
	OP(rmdir("../sub"));
	OP(open("x", O_WRONLY | O_CREAT, 0644));
	OP(open(".", O_RDONLY) < 0 ? -1 : 0);
	OP(chdir("../.."));
	OP(chdir("p.file"));
	show("p.dir");
}

static void rename_flags(void)
{
	make_file("x.a", "a", 0600);
	make_file("x.b", "b", 0640);
	mkdir("x.d", 0755);
	OP(renameat2(AT_FDCWD, "x.a", AT_FDCWD, "x.b", RENAME_NOREPLACE));
	OP(renameat2(AT_FDCWD, "x.a", AT_FDCWD, "x.c", RENAME_NOREPLACE));
	OP(renameat2(AT_FDCWD, "x.c", AT_FDCWD, "x.b", RENAME_EXCHANGE));
	show("x.b");
	show("x.c");
	OP(renameat2(AT_FDCWD, "x.b", AT_FDCWD, "x.d", RENAME_EXCHANGE));
	show("x.b");
	show("x.d");
	OP(renameat2(AT_FDCWD, "x.c", AT_FDCWD, "x.none", RENAME_EXCHANGE));
	OP(renameat2(AT_FDCWD, "x.b", AT_FDCWD, "x.b/inside", RENAME_EXCHANGE));
	OP(renameat2(AT_FDCWD, "x.c", AT_FDCWD, "x.d", RENAME_NOREPLACE | RENAME_EXCHANGE));
	OP(renameat2(AT_FDCWD, "x.c", AT_FDCWD, "x.white", RENAME_WHITEOUT));
	show("x.c");
	show("x.white");
	OP(renameat2(AT_FDCWD, "x.c", AT_FDCWD, "x.d", 0x80));
}

/* --- modes, owners, permissions
 * --------------------------------------------------------------------------------------- */

static void modes_at_creation(void)
{
	static const mode_t masks[] = {0, 022, 077, 0777, 0137};
	static const mode_t modes[] = {0777, 0666, 04755, 02755, 01777, 0};
	char text[100];

	for (unsigned i = 0; i < 5; i++)
		for (unsigned j = 0; j < 6; j++) {
			umask(masks[i]);
			snprintf(text, sizeof(text), "umask %03o, open %04o", masks[i], modes[j]);
			OP_AS(text, ({
				      int fd = open("m.file", O_WRONLY | O_CREAT | O_EXCL, modes[j]);
				      fd < 0 ? -1 : close(fd);
			      }));
			show("m.file");
			snprintf(text, sizeof(text), "umask %03o, mkdir %04o", masks[i], modes[j]);
			OP_AS(text, mkdir("m.dir", modes[j]));
			show("m.dir");
			unlink("m.file");
			rmdir("m.dir");
		}
	umask(027);
	OP(mkfifo("m.fifo", 0666));
	show("m.fifo");
	OP(mknod("m.chr", S_IFCHR | 0666, makedev(5, 1)));
	show("m.chr");
	OP(symlink("x", "m.link"));
	show("m.link");
	umask(022);
}

static void special_bits(void)
{
	make_file("s.file", "content", 06755);
	show("s.file");
	OP(write_one_byte("s.file"));
	show("s.file");
	chmod("s.file", 06755);
	OP(truncate("s.file", 3));
	show("s.file");
	chmod("s.file", 06755);
	OP(chown("s.file", 0, 0));
	show("s.file");
	chmod("s.file", 06755);
	OP(chown("s.file", (uid_t)-1, (gid_t)-1));
	show("s.file");
	chmod("s.file", 02644);
	OP(chown("s.file", USER, GROUP));
	show("s.file");
	chmod("s.file", 06777);
	AS_USER
	{
		int fd = OPEN(open("s.file", O_WRONLY));
		OP(write(fd, "user", 4));
		show("s.file");
		OP(fchmod(fd, 06777));
		show("s.file");
		OP(ftruncate(fd, 2));
		show("s.file");
		OP(fchmod(fd, 06777));
		OP(truncate("s.file", 1));
		show("s.file");
		OP(fchmod(fd, 06777));
		close(open("s.file", O_WRONLY | O_TRUNC));
		show("s.file");
		OP(fchmod(fd, 06755));
		OP(pwrite(fd, "more", 4, 100));
		show("s.file");
		OP(chown("s.file", USER, 2000));
		show("s.file");
		OP(chmod("s.file", 02755));
		show("s.file");
		OP(chown("s.file", USER, 3000));
		OP(chown("s.file", 0, GROUP));
	}
	/* Written through a descriptor that was open before the bits were set. */
	make_file("s.late", "late", 0755);
	{
		int fd = open("s.late", O_RDWR);
		OP(write(fd, "one", 3));
		OP(fchmod(fd, 06755));
		show("s.late");
		OP(write(fd, "two", 3));
		show("s.late");
		OP(fchmod(fd, 0755));
		OP(write(fd, "three", 5));
		show("s.late");
		close(fd);
		show_content("s.late");
	}
	OP(mkdir("s.gdir", 0755));
	OP(chown("s.gdir", 0, 2000));
	OP(chmod("s.gdir", 02777));
	show("s.gdir");
	OP(mkdir("s.gdir/dir", 0755));
	show("s.gdir/dir");
	make_file("s.gdir/file", "", 0644);
	show("s.gdir/file");
	OP(mknod("s.gdir/fifo", S_IFIFO | 0644, 0));
	show("s.gdir/fifo");
	AS_USER
	{
		OP(mkdir("s.gdir/user", 0755));
		show("s.gdir/user");
		close(OPEN(open("s.gdir/exec", O_CREAT | O_WRONLY, 02775)));
		show("s.gdir/exec");
	}
	OP(chown("s.gdir", 0, 3000));
	AS_USER
	{
		close(OPEN(open("s.gdir/foreign", O_CREAT | O_WRONLY, 02775)));
		show("s.gdir/foreign");
		OP(mkdir("s.gdir/foreigndir", 0775));
		show("s.gdir/foreigndir");
		OP(chmod("s.gdir/foreign", 02755));
		show("s.gdir/foreign");
	}
}

static void permissions(void)
{
	static const mode_t modes[] = {0700, 0070, 0007, 0444, 0222, 0111, 0770, 0000};
	static const struct {
		uid_t uid;
		gid_t gid;
	} owners[] = {{0, 0}, {USER, 0}, {0, GROUP}, {0, 2000}};
	char text[100];

	make_file("perm.file", "content", 0644);
	mkdir("perm.dir", 0755);
	make_file("perm.dir/inside", "", 0666);
	for (unsigned i = 0; i < 4; i++)
		for (unsigned j = 0; j < 8; j++) {
			chown("perm.file", owners[i].uid, owners[i].gid);
			chmod("perm.file", modes[j]);
			chown("perm.dir", owners[i].uid, owners[i].gid);
			chmod("perm.dir", modes[j]);
			AS_USER
			{
#define PERM(what, expression)                                                                                         \
	(snprintf(text, sizeof(text), "user, %u:%u %03o: %s", owners[i].uid, owners[i].gid, modes[j], what),           \
	 OP_AS(text, expression))
				PERM("read", open("perm.file", O_RDONLY) < 0 ? -1 : 0);
				PERM("write", open("perm.file", O_WRONLY) < 0 ? -1 : 0);
				PERM("execute", access("perm.file", X_OK));
				PERM("list", open("perm.dir", O_RDONLY) < 0 ? -1 : 0);
				PERM("search", access("perm.dir/inside", F_OK));
				PERM("make", open("perm.dir/new", O_WRONLY | O_CREAT, 0600) < 0 ? -1 : 0);
				unlink("perm.dir/new");
			}
		}
	chmod("perm.dir", 01777);
	chown("perm.dir", 0, 0);
	make_file("perm.dir/roots", "", 0666);
	AS_USER
	{
		OP(unlink("perm.dir/roots"));
		OP(rename("perm.dir/roots", "perm.dir/mine"));
		OP(chmod("perm.dir/roots", 0777));
		OP(chown("perm.dir/roots", USER, GROUP));
		OP(utimensat(AT_FDCWD, "perm.dir/roots", NULL, 0));
		OP(utimensat(AT_FDCWD, "perm.dir/roots", (struct timespec[2]){{1, 0}, {1, 0}}, 0));
		OP(setxattr("perm.dir/roots", "user.x", "1", 1, 0));
		OP(truncate("perm.dir/roots", 5));
		OP(mknod("perm.dir/null", S_IFCHR | 0666, makedev(1, 3)));
		OP(mkfifo("perm.dir/fifo", 0666));
		show("perm.dir/fifo");
		OP(symlink("x", "perm.dir/link"));
		show("perm.dir/link");
		OP(link("perm.dir/roots", "perm.dir/hard"));
		OP(unlink("perm.dir/fifo"));
		OP(open("perm.dir/roots", O_RDONLY | O_NOATIME));
		OP(chroot("perm.dir"));
	}
	chmod("perm.dir", 0700);
	OP(access("perm.dir/roots", W_OK));
	chmod("perm.dir/roots", 0);
	OP(open("perm.dir/roots", O_RDWR) < 0 ? -1 : 0);
	OP(access("perm.dir/roots", X_OK));
}

/* --- times
 * ------------------------------------------------------------------------------------------------------------ */

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

static void times(void)
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

/* --- reading and writing
 * ---------------------------------------------------------------------------------------------- */

static void data(void)
{
	static char buffer[300000], back[300000];
	struct iovec iovecs[3] = {{"one", 3}, {"two", 3}, {"three", 5}};
	struct rlimit limit = {1000, RLIM_INFINITY};
	int fd = OPEN(open("d.file", O_RDWR | O_CREAT | O_EXCL, 0644)), other;

	for (size_t i = 0; i < sizeof(buffer); i++)
		buffer[i] = (char)(i * 7 + i / 4096);
	OP(write(fd, buffer, sizeof(buffer)));
	OP(pread(fd, back, sizeof(back), 0));
	OP(memcmp(buffer, back, sizeof(back)));
	OP(pread(fd, back, 100, 299990));
	OP(pread(fd, back, 100, 300000));
	OP(pread(fd, back, 100, 1ll << 40));
	OP(pread(fd, back, 100, -1));
	OP(pwrite(fd, "x", 1, -1));
	OP(lseek(fd, 0, SEEK_END));
	OP(lseek(fd, -5, SEEK_CUR));
	OP(read(fd, back, 100));
	OP(lseek(fd, -1, SEEK_SET));
	OP(lseek(fd, 10, 77));
	OP(pwritev(fd, iovecs, 3, 4094));
	OP(pread(fd, back, 11, 4094));
	OP(memcmp(back, "onetwothree", 11));
	OP(pwritev2(fd, iovecs, 3, 0, RWF_APPEND));
	OP(pwritev2(fd, iovecs, 3, 0, RWF_DSYNC));
	OP(pwritev2(fd, iovecs, 3, 20, RWF_SYNC));
	show("d.file");
	OP(ftruncate(fd, 5000));
	OP(ftruncate(fd, 10000));
	OP(pread(fd, back, 10000, 0));
	OP(back[4999] != 0);
	OP(back[5000]);
	OP(ftruncate(fd, -1));
	OP(ftruncate(fd, 0));
	OP(pread(fd, back, 10, 0));
	OP(pwrite(fd, "far", 3, 1ll << 33));
	show("d.file");
	OP(lseek(fd, 0, SEEK_DATA) >= 0);
	OP(lseek(fd, 0, SEEK_HOLE));
	OP(lseek(fd, 1ll << 34, SEEK_DATA));
	OP(ftruncate(fd, 100));
	close(fd);
	fd = OPEN(open("d.append", O_RDWR | O_CREAT | O_APPEND, 0644));
	other = OPEN(open("d.append", O_WRONLY));
	OP(write(fd, "one", 3));
	OP(write(other, "ONE ", 4));
	OP(pwrite(fd, "two", 3, 0));
	OP(write(other, "FOUR", 4));
	OP(lseek(fd, 0, SEEK_SET));
	OP(write(fd, "end", 3));
	OP(lseek(fd, 0, SEEK_CUR));
	OP(fcntl(fd, F_SETFL, 0));
	OP(pwrite(fd, "!", 1, 0));
	OP(fcntl(other, F_SETFL, O_APPEND));
	OP(write(other, "last", 4));
	close(fd);
	close(other);
	show_content("d.append");
	fd = OPEN(open("d.append", O_RDONLY));
	OP(write(fd, "x", 1));
	OP(ftruncate(fd, 0));
	OP(fallocate(fd, 0, 0, 10));
	close(fd);
	fd = OPEN(open("d.append", O_WRONLY));
	OP(read(fd, back, 1));
	close(fd);
	fd = OPEN(open("d.sync", O_RDWR | O_CREAT | O_SYNC, 0644));
	OP(write(fd, buffer, sizeof(buffer)));
	OP(pread(fd, back, sizeof(back), 0));
	OP(memcmp(buffer, back, sizeof(back)));
	OP(fdatasync(fd));
	OP(fsync(fd));
	OP(syncfs(fd));
	close(fd);
	fd = OPEN(open("d.direct", O_RDWR | O_CREAT | O_DSYNC, 0644));
	OP(write(fd, buffer, 8192));
	close(fd);
	OP(truncate("d.none", 1));
	OP(truncate("d.file", -1));
	OP(truncate(".", 1));
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	fd = OPEN(open("d.limit", O_RDWR | O_CREAT, 0644));
	OP(write(fd, buffer, 2000));
	OP(write(fd, buffer, 2000));
	OP(ftruncate(fd, 2000));
	OP(truncate("d.limit", 2000));
	close(fd);
	show("d.limit");
	limit.rlim_cur = RLIM_INFINITY;
	setrlimit(RLIMIT_FSIZE, &limit);
	OP(truncate("d.limit", 1ll << 62));
	OP(open("d.excl", O_WRONLY | O_CREAT | O_EXCL, 0644) < 0);
	OP(open("d.excl", O_WRONLY | O_CREAT | O_EXCL, 0644));
	OP(open("d.none", O_RDWR));
	OP(open("d.excl", O_RDONLY | O_DIRECTORY));
	OP(open("d.excl", O_RDWR | O_TRUNC) < 0);
}

static void ranges(void)
{
	static char buffer[65536], back[65536];
	int fd = OPEN(open("f.file", O_RDWR | O_CREAT, 0644)), copy;
	struct stat st;

	memset(buffer, 'b', sizeof(buffer));
	OP(write(fd, buffer, sizeof(buffer)));
	OP(fallocate(fd, 0, 0, 100000));
	show("f.file");
	OP(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
	show("f.file");
	OP(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192));
	OP(pread(fd, back, sizeof(back), 0));
	OP(back[4095]);
	OP(back[4096]);
	OP(back[12287]);
	OP(back[12288]);
	OP(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
	OP(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 10));
	OP(pread(fd, back, 200, 0));
	OP(back[99] + back[100] + back[109] + back[110]);
	OP(fallocate(fd, 0, -1, 10));
	OP(fallocate(fd, 0, 0, 0));
	OP(posix_fallocate(fd, 0, 200000));
	show("f.file");
	copy = OPEN(open("f.copy", O_RDWR | O_CREAT, 0644));
	OP(copy_file_range(fd, &(off_t){0}, copy, &(off_t){0}, 65536, 0));
	OP(copy_file_range(fd, &(off_t){50}, copy, &(off_t){100000}, 1000, 0));
	OP(copy_file_range(fd, &(off_t){10000000}, copy, &(off_t){0}, 1000, 0));
	OP(copy_file_range(fd, &(off_t){0}, fd, &(off_t){10}, 100, 0));
	OP(copy_file_range(fd, &(off_t){0}, copy, &(off_t){0}, 10, 1));
	show("f.copy");
	OP(pread(copy, back, 65536, 0));
	OP(back[0] + back[4096] + back[12288]);
	OP(sendfile(copy, fd, &(off_t){0}, 5000));
	OP(fstat(copy, &st));
	OP(ftruncate(copy, 1 << 20));
	OP(ftruncate(copy, 0));
	OP(pwrite(copy, buffer, 4096, 1 << 20));
	OP(lseek(copy, 0, SEEK_DATA));
	OP(lseek(copy, 1 << 20, SEEK_HOLE));
	OP(fstat(copy, &st) == 0 && st.st_blocks < 100);
	OP(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	OP(readahead(fd, 0, 4096));
	OP(sync_file_range(fd, 0, 4096, SYNC_FILE_RANGE_WRITE));
	close(fd);
	close(copy);
}

static void mapped(void)
{
	char *shared, *private, *second, back[10];
	int fd = OPEN(open("mm.file", O_RDWR | O_CREAT, 0644)), pipes[2];

	OP(ftruncate(fd, 8192));
	shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	second = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
	private = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	OP(shared == MAP_FAILED || second == MAP_FAILED || private == MAP_FAILED);
	memcpy(shared + 4090, "across pages", 12);
	OP(memcmp(second + 4090, "across pages", 12));
	OP(pread(fd, back, 10, 4090));
	OP(memcmp(back, "across pag", 10));
	private[0] = 'p';
	OP(pread(fd, back, 1, 0));
	OP(back[0]);
	OP(pwrite(fd, "written", 7, 100));
	OP(memcmp(shared + 100, "written", 7));
	OP(msync(shared, 8192, MS_SYNC));
	OP(close(fd));
	shared[1] = 's';
	OP(munmap(shared, 8192));
	OP(unlink("mm.file"));
	OP(second[1]);
	fd = open("mm.read", O_RDONLY | O_CREAT, 0644);
	OP(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	close(fd);
	make_file("mm.exec", "#!/bin/none\n", 0755);
	OP(execl("mm.exec", "mm.exec", NULL));
	OP(chmod("mm.exec", 0644));
	OP(execl("mm.exec", "mm.exec", NULL));
	make_file("mm.splice", "spliced data", 0644);
	fd = open("mm.splice", O_RDWR);
	OP(pipe(pipes));
	OP(splice(fd, &(off_t){0}, pipes[1], NULL, 7, 0));
	OP(splice(pipes[0], NULL, fd, &(off_t){20}, 7, 0));
	close(fd);
	show_content("mm.splice");
}

static void without_name(void)
{
	char text[64], path[64];
	int fd, dir;

	make_file("u.file", "still here", 0644);
	fd = OPEN(open("u.file", O_RDWR));
	OP(unlink("u.file"));
	show_fd("deleted file", fd);
	OP(pread(fd, text, 20, 0));
	OP(pwrite(fd, "more", 4, 10));
	OP(ftruncate(fd, 5));
	OP(fchmod(fd, 0600));
	OP(fchown(fd, 5, 5));
	OP(futimens(fd, (struct timespec[2]){{1, 0}, {1, 0}}));
	OP(fsetxattr(fd, "user.gone", "1", 1, 0));
	OP(fgetxattr(fd, "user.gone", text, 20));
	show_fd("deleted file", fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OP(linkat(AT_FDCWD, path, AT_FDCWD, "u.back", AT_SYMLINK_FOLLOW));
	OP(open(path, O_RDONLY) < 0);
	close(fd);
	fd = OPEN(open(".", O_TMPFILE | O_RDWR, 0640));
	OP(write(fd, "temporary", 9));
	show_fd("O_TMPFILE", fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OP(linkat(AT_FDCWD, path, AT_FDCWD, "u.named", AT_SYMLINK_FOLLOW));
	show("u.named");
	show_content("u.named");
	OP(linkat(AT_FDCWD, path, AT_FDCWD, "u.named", AT_SYMLINK_FOLLOW));
	close(fd);
	fd = OPEN(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0640));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OP(linkat(AT_FDCWD, path, AT_FDCWD, "u.never", AT_SYMLINK_FOLLOW));
	close(fd);
	OP(open(".", O_TMPFILE | O_RDONLY, 0640));
	OP(open("u.named", O_TMPFILE | O_RDWR, 0640));
	AS_USER
	{
		OP(open(".", O_TMPFILE | O_RDWR, 0640));
	}
	OP(mkdir("u.dir", 0755));
	dir = OPEN(open("u.dir", O_RDONLY | O_DIRECTORY));
	OP(rmdir("u.dir"));
	show_fd("deleted directory", dir);
	OP(mkdirat(dir, "x", 0755));
	OP(openat(dir, "x", O_CREAT | O_WRONLY, 0644));
	OP(openat(dir, ".", O_RDONLY) < 0);
	OP(fchmod(dir, 0700));
	close(dir);
}

/* --- extended attributes
 * ---------------------------------------------------------------------------------------------- */

struct acl_entry {
	uint16_t tag, permissions;
	uint32_t id;
};
struct acl {
	uint32_t version;
	struct acl_entry entries[5];
};

/* Owner rwx, user USER rw-, group r-x, mask rw-, others none. */
static const struct acl acl = {2, {{1, 7, ~0u}, {2, 6, USER}, {4, 5, ~0u}, {16, 6, ~0u}, {32, 0, ~0u}}};

static void attributes(void)
{
	static char big[70000], back[70000];
	static char name[300] = "user.";
	/* CAP_NET_BIND_SERVICE, permitted and effective, version 2. */
	static const uint32_t capability[5] = {0x02000001, 1u << 10, 0, 0, 0};

	memset(big, 'v', sizeof(big));
	make_file("a.file", "", 0644);
	mkdir("a.dir", 0755);
	OP(setxattr("a.file", "user.one", "1", 1, 0));
	OP(setxattr("a.file", "user.one", "1", 1, XATTR_CREATE));
	OP(setxattr("a.file", "user.two", "22", 2, XATTR_REPLACE));
	OP(setxattr("a.file", "user.two", "22", 2, XATTR_CREATE));
	OP(setxattr("a.file", "user.one", "111", 3, XATTR_REPLACE));
	OP(getxattr("a.file", "user.one", back, 100));
	OP(getxattr("a.file", "user.one", back, 2));
	OP(getxattr("a.file", "user.one", NULL, 0));
	OP(getxattr("a.file", "user.none", back, 100));
	OP(setxattr("a.file", "user.empty", "", 0, 0));
	OP(getxattr("a.file", "user.empty", back, 100));
	OP(listxattr("a.file", NULL, 0));
	OP(listxattr("a.file", back, 3));
	OP(listxattr("a.file", back, sizeof(back)));
	OP(removexattr("a.file", "user.two"));
	OP(removexattr("a.file", "user.two"));
	OP(listxattr("a.file", back, sizeof(back)));
	OP(setxattr("a.file", "user.big", big, 2000, 0));
	OP(getxattr("a.file", "user.big", back, sizeof(back)));
	OP(memcmp(big, back, 2000));
	OP(setxattr("a.file", "user.big", big, 65537, 0));
	memset(name + 5, 'n', 251);
	OP_AS("setxattr with a name of 256 bytes", setxattr("a.file", name, "1", 1, 0));
	name[255] = '\0';
	OP_AS("setxattr with a name of 255 bytes", setxattr("a.file", name, "1", 1, 0));
	OP(setxattr("a.file", "", "1", 1, 0));
	OP(setxattr("a.file", "unknown.x", "1", 1, 0));
	OP(setxattr("a.file", "user", "1", 1, 0));
	OP(setxattr("a.file", "user.", "1", 1, 0));
	OP(setxattr("a.file", "user.x", "1", 1, 8));
	OP(setxattr("a.file", "trusted.x", "1", 1, 0));
	OP(getxattr("a.file", "trusted.x", back, 100));
	OP(setxattr("a.dir", "user.dir", "1", 1, 0));
	OP(getxattr("a.dir", "user.dir", back, 100));
	OP(setxattr("a.none", "user.x", "1", 1, 0));
	OP(setxattr("a.file", "security.capability", capability, 20, 0));
	OP(getxattr("a.file", "security.capability", back, 100));
	OP(memcmp(back, capability, 20));
	OP(setxattr("a.file", "security.capability", "nonsense", 8, 0));
	OP(write_one_byte("a.file"));
	OP(getxattr("a.file", "security.capability", back, 100));
	OP(setxattr("a.file", "security.capability", capability, 20, 0));
	OP(chown("a.file", 0, 5));
	OP(getxattr("a.file", "security.capability", back, 100));
	OP(setxattr("a.file", "security.capability", capability, 20, 0));
	OP(truncate("a.file", 0));
	OP(getxattr("a.file", "security.capability", back, 100));
	AS_USER
	{
		OP(setxattr("a.file", "user.x", "1", 1, 0));
		OP(getxattr("a.file", "user.one", back, 100));
		OP(setxattr("a.file", "security.capability", capability, 20, 0));
	}
}

static void access_lists(void)
{
	static char back[1000];

	make_file("acl.file", "", 0640);
	OP(setxattr("acl.file", "system.posix_acl_access", &acl, sizeof(acl), 0));
	show("acl.file");
	OP(getxattr("acl.file", "system.posix_acl_access", back, sizeof(back)));
	OP(memcmp(back, &acl, sizeof(acl)));
	AS_USER
	{
		OP(open("acl.file", O_RDWR) < 0);
		OP(access("acl.file", X_OK));
	}
	OP(chmod("acl.file", 0600));
	AS_USER
	{
		OP(open("acl.file", O_RDONLY));
	}
	OP(getxattr("acl.file", "system.posix_acl_access", back, sizeof(back)));
	OP(back[4 + 3 * 8 + 2]);
	OP(removexattr("acl.file", "system.posix_acl_access"));
	OP(getxattr("acl.file", "system.posix_acl_access", back, sizeof(back)));
	show("acl.file");
	OP(setxattr("acl.file", "system.posix_acl_access", "bad", 3, 0));
	OP(setxattr("acl.file", "system.posix_acl_default", &acl, sizeof(acl), 0));
	mkdir("acl.dir", 0777);
	OP(setxattr("acl.dir", "system.posix_acl_default", &acl, sizeof(acl), 0));
	OP(getxattr("acl.dir", "system.posix_acl_default", back, sizeof(back)));
	umask(077);
	close(OPEN(open("acl.dir/file", O_WRONLY | O_CREAT, 0666)));
	show("acl.dir/file");
	OP(getxattr("acl.dir/file", "system.posix_acl_access", back, sizeof(back)));
	OP(mkdir("acl.dir/dir", 0777));
	show("acl.dir/dir");
	OP(getxattr("acl.dir/dir", "system.posix_acl_default", back, sizeof(back)));
	OP(mkfifo("acl.dir/fifo", 0666));
	show("acl.dir/fifo");
	OP(symlink("x", "acl.dir/link"));
	umask(022);
	AS_USER
	{
		OP(open("acl.dir/file", O_RDWR) < 0);
		OP(open("acl.dir/dir/x", O_WRONLY | O_CREAT, 0600));
	}
	/* Whoever sets an ACL on a file of a group that he is not in loses its set-group-ID bit. */
	make_file("acl.sgid", "", 0755);
	OP(chown("acl.sgid", USER, 3000));
	OP(chmod("acl.sgid", 02755));
	AS_USER
	{
		OP(setxattr("acl.sgid", "system.posix_acl_access", &acl, sizeof(acl), 0));
		show("acl.sgid");
	}
}

/* --- directories
 * ------------------------------------------------------------------------------------------------------ */

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *path)
{
	char *names[100] = {NULL};
	unsigned count = 0;
	DIR *dir = opendir(path);
	struct dirent *entry;

	start_line("list %s:", path);
	while (dir && (entry = readdir(dir)) && count < 100)
		asprintf(&names[count++], "%s=%u", entry->d_name, entry->d_type);
	if (!dir)
		printf(" %s", strerrorname_np(errno));
	else
		closedir(dir);
	qsort(names, count, sizeof(names[0]), compare_names);
	for (unsigned i = 0; i < count; free(names[i++]))
		printf(" %s", names[i]);
	putchar('\n');
}

static unsigned count_entries(DIR *dir)
{
	unsigned count = 0;

	while (dir && readdir(dir))
		count++;
	return count;
}

#define MANY 1500 /* more than one getdents of the file server */

static void directories(void)
{
	char path[64], first[300];
	unsigned made = 0, seen = 0;
	struct statvfs fs;
	struct dirent *entry;
	long position;
	DIR *dir;
	int fd;

	OP(mkdir("l.dir", 0755));
	list("l.dir");
	for (unsigned kind = 0; kind < KINDS; kind++) {
		snprintf(path, sizeof(path), "l.dir/%s", kinds[kind]);
		make_kind(kind, path);
	}
	list("l.dir");
	show("l.dir");
	for (unsigned kind = 0; kind < KINDS; kind++) {
		snprintf(path, sizeof(path), "l.dir/%s", kinds[kind]);
		remove_kind(path);
	}
	list("l.dir");
	OP(rmdir("l.dir"));
	list("l.none");
	OP(mkdir("l.many", 0755));
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(path, sizeof(path), "l.many/entry%05u", i);
		fd = open(path, O_CREAT | O_WRONLY, 0644);
		made += fd >= 0;
		close(fd);
	}
	OP(made);
	dir = opendir("l.many");
	if (!dir) {
		puts("# cannot list l.many");
		return;
	}
	OP(count_entries(dir));
	rewinddir(dir);
	OP(count_entries(dir));
	rewinddir(dir);
	for (unsigned i = 0; i < MANY / 2; i++)
		readdir(dir);
	position = telldir(dir);
	entry = readdir(dir);
	snprintf(first, sizeof(first), "%s", entry ? entry->d_name : "?");
	OP(count_entries(dir));
	seekdir(dir, position);
	entry = readdir(dir);
	OP(entry ? strcmp(entry->d_name, first) : 1);
	rewinddir(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		seen++;
		unlinkat(dirfd(dir), entry->d_name, 0);
	}
	OP(seen);
	closedir(dir);
	OP(rmdir("l.many"));
	OP(statvfs(".", &fs));
	OP(fs.f_namemax);
	OP(fs.f_bsize);
	OP(fs.f_blocks > 0 && fs.f_bfree <= fs.f_blocks);
	fd = open(".", O_RDONLY);
	OP(fsync(fd));
	OP(fdatasync(fd));
	OP(read(fd, path, 10));
	OP(ftruncate(fd, 0));
	OP(flock(fd, LOCK_EX | LOCK_NB));
	close(fd);
}

/* --- locks, leases and other things of open files
 * --------------------------------------------------------------------- */

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

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 1 << 12);
	umask(022);
	if (argc != 2 || mkdir(argv[1], 0755) < 0 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: fsops DIRECTORY (which must not exist): %s\n", strerror(errno));
		return 2;
	}
	each_kind();
	rename_kinds();
	long_names();
	paths();
	rename_flags();
	modes_at_creation();
	special_bits();
	permissions();
	times();
	data();
	ranges();
	mapped();
	without_name();
	attributes();
	access_lists();
	directories();
	locks();
	sockets_and_fifos();
	many_open();
	printf("%u lines\n", line_number);
	return 0;
}

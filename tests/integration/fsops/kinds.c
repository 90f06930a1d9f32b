/* Each kind of file, and what can be done to it. */
#include "tests/integration/fsops/fsops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

const char *const kinds[KINDS] = {"file", "directory", "symlink", "fifo", "socket", "chr", "blk", "dangling"};

int make_kind(unsigned kind, const char *path)
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

int remove_kind(const char *path)
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

void try_kinds(void)
{
	each_kind();
	rename_kinds();
}

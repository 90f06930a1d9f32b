/* Long names, paths, and the flags of renameat2. */
#include "tests/integration/fsops/fsops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

void try_names(void)
{
	long_names();
	paths();
	rename_flags();
}

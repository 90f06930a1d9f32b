/* Modes, owners and permissions. */
#include "tests/integration/fsops/fsops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

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

void try_modes(void)
{
	modes_at_creation();
	special_bits();
	permissions();
}

/* Extended attributes and access control lists. */
#include "tests/integration/fsops/fsops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

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

void try_attributes(void)
{
	attributes();
	access_lists();
}

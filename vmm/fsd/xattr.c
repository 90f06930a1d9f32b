/*
 * Extended attributes, passed on as they are.
 *
 * user.* and the POSIX ACLs: as the host's file system has them. security.capability: with CAP_SETFCAP. trusted.* and
 * the rest of security.* need CAP_SYS_ADMIN on the host, which this process does not have: setting them gives EPERM,
 * and trusted.* is not listed.
 */
#include "vmm/fsd/server.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "vmm/fsd/identity.h"

/* The guest's kernel saw that the caller may not keep the set-group-ID bit when it changes the ACL; this process is in
 * every group and may. */
static void clear_setgid(const struct inode *inode)
{
	struct statx st;

	if (inode_stat(inode, &st) == 0 && (st.stx_mode & S_ISGID))
		chmod(fd_path(inode->fd).text, st.stx_mode & 07777 & ~(uint32_t)S_ISGID);
}

/* The kernel's word for a name that is too long. */
static int take_name(struct request *request, const char **name)
{
	int result = request_take_string(request, XATTR_NAME_MAX, name);

	return result == -ENAMETOOLONG ? -ERANGE : result;
}

int do_setxattr(struct server *server, struct request *request)
{
	const struct fuse_setxattr_in *in = request_take(request, sizeof(*in));
	const char *name;
	const void *value;
	int result = 0;
	struct inode *inode = request_inode(server, request, &result);

	if (!inode)
		return result;
	result = take_name(request, &name);
	if (result < 0)
		return result;
	value = request_take(request, in->size);
	if (!value)
		return -EINVAL;
	if (setxattr(fd_path(inode->fd).text, name, value, in->size, (int)in->flags) < 0)
		return failure();
	if (in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID)
		clear_setgid(inode);
	return 0;
}

/* Size 0 asks how large the value is. */
static int answer_size(struct request *request, ssize_t size)
{
	struct fuse_getxattr_out *out;

	if (size < 0)
		return failure();
	out = request_answer(request, sizeof(*out));
	out->size = (uint32_t)size;
	return 0;
}

static int answer_value(struct request *request, ssize_t size)
{
	if (size < 0)
		return failure();
	request->answer_size = (size_t)size;
	return 0;
}

static size_t room(uint32_t size)
{
	return size < XATTR_SIZE_MAX ? size : XATTR_SIZE_MAX;
}

int do_getxattr(struct server *server, struct request *request)
{
	const struct fuse_getxattr_in *in = request_take(request, sizeof(*in));
	const struct inode *inode = node_get(server, request->header->nodeid);
	const char *name;
	int result;

	if (!inode)
		return -ESTALE;
	if (is_root(inode))
		return -ENODATA;
	result = take_name(request, &name);
	if (result < 0)
		return result;
	if (in->size == 0)
		return answer_size(request, getxattr(fd_path(inode->fd).text, name, NULL, 0));
	return answer_value(request, getxattr(fd_path(inode->fd).text, name, request->answer, room(in->size)));
}

int do_listxattr(struct server *server, struct request *request)
{
	const struct fuse_getxattr_in *in = request_take(request, sizeof(*in));
	const struct inode *inode = node_get(server, request->header->nodeid);

	if (!inode)
		return -ESTALE;
	if (is_root(inode))
		return in->size == 0 ? answer_size(request, 0) : 0;
	if (in->size == 0)
		return answer_size(request, listxattr(fd_path(inode->fd).text, NULL, 0));
	return answer_value(request, listxattr(fd_path(inode->fd).text, (char *)request->answer, room(in->size)));
}

int do_removexattr(struct server *server, struct request *request)
{
	const char *name;
	int result = 0;
	struct inode *inode = request_inode(server, request, &result);

	if (!inode)
		return result;
	result = take_name(request, &name);
	if (result < 0)
		return result;
	return removexattr(fd_path(inode->fd).text, name) < 0 ? failure() : 0;
}

#include "runtime/parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int find_own_folder(char *folder, size_t size, struct error *err)
{
	ssize_t length = readlink("/proc/self/exe", folder, size - 1);
	char *slash;

	if (length < 0)
		return error_set_errno(err, "read /proc/self/exe (is /proc mounted?)");
	folder[length] = '\0';
	slash = strrchr(folder, '/');
	if (!slash)
		return error_set(err, ENOENT, "/proc/self/exe names `%s`, which is not an absolute path", folder);
	*slash = '\0';
	return 0;
}

static int set_path(char *path, const char *override, const char *folder, const char *name, struct error *err)
{
	int length;

	if (override && *override)
		length = snprintf(path, PATH_MAX, "%s", override);
	else
		length = snprintf(path, PATH_MAX, "%s/%s", folder, name);
	if (length >= PATH_MAX)
		return error_set(err, ENAMETOOLONG, "path of `%s`: too long", name);
	return 0;
}

static int find_program(char *path, const char *override, const char *folder, const char *name, struct error *err)
{
	char installed[64];

	if (set_path(path, override, folder, name, err) < 0)
		return -1;
	if ((override && *override) || access(path, X_OK) == 0)
		return 0;
	snprintf(installed, sizeof(installed), "../libexec/hull/%s", name);
	return set_path(path, NULL, folder, installed, err);
}

int parts_find(struct parts *parts, struct error *err)
{
	char folder[PATH_MAX];

	if (find_own_folder(folder, sizeof(folder), err) < 0 ||
	    find_program(parts->vmm, getenv("HULL_VMM"), folder, "hull-vmm", err) < 0 ||
	    find_program(parts->fsd, getenv("HULL_FSD"), folder, "hull-fsd", err) < 0 ||
	    set_path(parts->kernel, getenv("HULL_KERNEL"), folder, "../share/hull/vmlinux", err) < 0)
		return -1;
	return set_path(parts->initramfs, getenv("HULL_INITRAMFS"), folder, "../share/hull/initramfs", err);
}

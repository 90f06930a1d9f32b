#include "guest-agent/sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/words.h"

/* sysctl.d(5): the separator is whichever of "." and "/" comes first; the other one is then a part of a name. */
static char *path_of(const char *name)
{
	char *path = strdup(name);
	const char *first = strpbrk(name, "./");

	for (char *c = path; path && first && *first == '.' && *c; c++) {
		if (*c == '.')
			*c = '/';
		else if (*c == '/')
			*c = '.';
	}
	return path;
}

/* Nothing may lead out of /proc/sys. */
static bool is_safe(const char *path)
{
	for (;;) {
		size_t length = strcspn(path, "/");

		if (length == 0 || (length == 1 && path[0] == '.') || (length == 2 && path[0] == '.' && path[1] == '.'))
			return false;
		if (path[length] == '\0')
			return true;
		path += length + 1;
	}
}

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_of_ipc(const char *path)
{
	static const char *const known[] = {"msgmax", "msgmnb", "msgmni",	   "sem", "shmall",
					    "shmmax", "shmmni", "shm_rmid_forced", NULL};

	if (starts_with(path, "fs/mqueue/"))
		return true;
	return starts_with(path, "kernel/") && is_one_of(known, path + strlen("kernel/"));
}

static int check(const char *name, const char *path, struct sysctl_scope scope, struct error *err)
{
	if (!is_safe(path))
		return error_set(err, EINVAL, "sysctl \"%s\" is not a parameter's name", name);
	if (is_of_ipc(path))
		return scope.ipc
			   ? 0
			   : error_set(err, EPERM, "sysctl \"%s\" is not allowed in the hosts ipc namespace", name);
	if (starts_with(path, "net/"))
		return scope.network
			   ? 0
			   : error_set(err, EPERM, "sysctl \"%s\" not allowed in host network namespace", name);
	if (scope.uts && strcmp(path, "kernel/domainname") == 0)
		return 0;
	if (scope.uts && strcmp(path, "kernel/hostname") == 0)
		return error_set(err, EINVAL,
				 "sysctl \"%s\" is not allowed as it conflicts with the OCI \"hostname\" field", name);
	return error_set(err, EPERM, "sysctl \"%s\" is not in a separate kernel namespace", name);
}

int sysctls_read(const json_t *object, struct sysctl_scope scope, struct sysctls *sysctls, struct error *err)
{
	const char *name;
	json_t *value;

	*sysctls = (struct sysctls){.list = calloc(json_object_size(object) + 1, sizeof(struct sysctl))};
	if (!sysctls->list)
		return error_set(err, ENOMEM, "out of memory");
	json_object_foreach((json_t *)object, name, value)
	{
		struct sysctl *sysctl = &sysctls->list[sysctls->n];

		if (!json_is_string(value))
			continue;
		sysctl->value = json_string_value(value);
		sysctl->path = path_of(name);
		if (!sysctl->path)
			return error_set(err, ENOMEM, "out of memory");
		sysctls->n++;
		if (check(name, sysctl->path, scope, err) < 0)
			return error_prefix(err, "linux.sysctl");
	}
	return 0;
}

void sysctls_release(struct sysctls *sysctls)
{
	for (size_t i = 0; i < sysctls->n; i++)
		free(sysctls->list[i].path);
	free(sysctls->list);
	*sysctls = (struct sysctls){0};
}

static int apply_one(const char *proc, const struct sysctl *sysctl, struct error *err)
{
	cleanup_close int fd = -1;
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/sys/%s", proc, sysctl->path) >= (int)sizeof(path))
		return error_set(err, ENAMETOOLONG, "linux.sysctl: a name is too long");
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return error_set_errno(err, "linux.sysctl: open /proc/sys/%s", sysctl->path);
	if (write_exactly(fd, sysctl->value, strlen(sysctl->value)) < 0)
		return error_set_errno(err, "linux.sysctl: write /proc/sys/%s", sysctl->path);
	return 0;
}

int sysctls_apply(const char *proc, const struct sysctls *sysctls, struct error *err)
{
	for (size_t i = 0; i < sysctls->n; i++)
		if (apply_one(proc, &sysctls->list[i], err) < 0)
			return -1;
	return 0;
}

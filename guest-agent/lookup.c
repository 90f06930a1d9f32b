#include "guest-agent/lookup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *lookup_variable(char *const *env, const char *name)
{
	size_t length = strlen(name);

	for (; env && *env; env++)
		if (strncmp(*env, name, length) == 0 && (*env)[length] == '=')
			return *env + length + 1;
	return NULL;
}

/* Go spells them all in lower case, libc with a capital. */
const char *lookup_reason(int code)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s", strerror(code));
	if (!isupper((unsigned char)text[1]))
		text[0] = (char)tolower((unsigned char)text[0]);
	return text;
}

static bool is_in_group(gid_t gid)
{
	static gid_t groups[NGROUPS_MAX];
	int n = getgroups(NGROUPS_MAX, groups);

	for (int i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return gid == getegid();
}

/* What the mode says to the present user. */
static bool mode_allows(const struct stat *status)
{
	if (geteuid() == 0)
		return status->st_mode & 0111;
	if (status->st_uid == geteuid())
		return status->st_mode & 0100;
	return status->st_mode & (is_in_group(status->st_gid) ? 0010 : 0001);
}

/* The container's filter may be in force already, and be older than faccessat2: what it does not know it answers with
 * EPERM, or with ENOSYS. */
static int check_access(const char *path, const struct stat *status)
{
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0)
		return 0;
	if (errno != EPERM && errno != ENOSYS)
		return errno;
	return mode_allows(status) ? 0 : EACCES;
}

/* 0, or an errno value; *stage tells a failed stat from a file that is no program. */
static int check_program(const char *path, const char **stage)
{
	struct stat status;

	*stage = "stat";
	if (stat(path, &status) < 0)
		return errno;
	*stage = NULL;
	if (S_ISDIR(status.st_mode))
		return EACCES; /* as engines expect it: 126 */
	if (!(status.st_mode & 0111))
		return EACCES;
	return check_access(path, &status);
}

static int lookup_as_is(const char *name, char *path, size_t room, struct error *err)
{
	const char *stage;
	int code = check_program(name, &stage);

	if (code && stage)
		return error_set(err, code, "exec: \"%s\": %s %s: %s", name, stage, name, lookup_reason(code));
	if (code)
		return error_set(err, code, "exec: \"%s\": %s", name, lookup_reason(code));
	snprintf(path, room, "%s", name);
	return 0;
}

static int not_found(const char *name, struct error *err)
{
	return error_set(err, ENOENT, "exec: \"%s\": executable file not found in $PATH", name);
}

int lookup_program(const char *name, char *const *env, char *path, size_t room, struct error *err)
{
	const char *directories = lookup_variable(env, "PATH");
	const char *stage;

	if (strlen(name) >= room)
		return error_set(err, ENAMETOOLONG, "exec: \"%.64s...\": %s", name, lookup_reason(ENAMETOOLONG));
	if (strchr(name, '/'))
		return lookup_as_is(name, path, room, err);
	if (*name == '\0' || !directories || *directories == '\0')
		return not_found(name, err);
	for (const char *next = directories; next;) {
		size_t length = strcspn(next, ":");
		int n = length ? snprintf(path, room, "%.*s/%s", (int)length, next, name)
			       : snprintf(path, room, "./%s", name);

		if (n > 0 && (size_t)n < room && check_program(path, &stage) == 0) {
			if (path[0] == '/')
				return 0;
			return error_set(err, ENOENT,
					 "exec: \"%s\": cannot run executable found relative to current directory",
					 name);
		}
		next = next[length] == ':' ? next + length + 1 : NULL;
	}
	return not_found(name, err);
}

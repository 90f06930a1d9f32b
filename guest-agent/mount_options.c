#include "guest-agent/mount_options.h"

#include <stddef.h>
#include <string.h>
#include <sys/mount.h>

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

enum kind { SET, CLEAR, TREE_SET, TREE_CLEAR, PROPAGATE, COPY_UP, IGNORE };

struct option {
	const char *name;
	enum kind kind;
	unsigned long bits;
};

static const struct option options_known[] = {
    {"acl", IGNORE, 0}, /* file systems with ACLs have them always */
    {"async", CLEAR, MS_SYNCHRONOUS},
    {"atime", CLEAR, MS_NOATIME},
    {"bind", SET, MS_BIND},
    {"defaults", IGNORE, 0},
    {"dev", CLEAR, MS_NODEV},
    {"diratime", CLEAR, MS_NODIRATIME},
    {"dirsync", SET, MS_DIRSYNC},
    {"exec", CLEAR, MS_NOEXEC},
    {"idmap", IGNORE, 0},    /* the host does it */
    {"iversion", IGNORE, 0}, /* the kernel no longer lets anybody choose */
    {"lazytime", SET, MS_LAZYTIME},
    {"loud", IGNORE, 0},
    {"mand", IGNORE, 0}, /* mandatory locks are gone from the kernel */
    {"noacl", IGNORE, 0},
    {"noatime", SET, MS_NOATIME},
    {"nodev", SET, MS_NODEV},
    {"nodiratime", SET, MS_NODIRATIME},
    {"noexec", SET, MS_NOEXEC},
    {"noiversion", IGNORE, 0},
    {"nolazytime", CLEAR, MS_LAZYTIME},
    {"nomand", IGNORE, 0},
    {"norelatime", CLEAR, MS_RELATIME},
    {"nostrictatime", CLEAR, MS_STRICTATIME},
    {"nosuid", SET, MS_NOSUID},
    {"nosymfollow", SET, MS_NOSYMFOLLOW},
    {"private", PROPAGATE, MS_PRIVATE},
    {"ratime", TREE_CLEAR, MOUNT_ATTR_NOATIME},
    {"rbind", SET, MS_BIND | MS_REC},
    {"rdev", TREE_CLEAR, MOUNT_ATTR_NODEV},
    {"rdiratime", TREE_CLEAR, MOUNT_ATTR_NODIRATIME},
    {"relatime", SET, MS_RELATIME},
    {"remount", SET, MS_REMOUNT},
    {"rexec", TREE_CLEAR, MOUNT_ATTR_NOEXEC},
    {"ridmap", IGNORE, 0}, /* the same */
    {"rnoatime", TREE_SET, MOUNT_ATTR_NOATIME},
    {"rnodev", TREE_SET, MOUNT_ATTR_NODEV},
    {"rnodiratime", TREE_SET, MOUNT_ATTR_NODIRATIME},
    {"rnoexec", TREE_SET, MOUNT_ATTR_NOEXEC},
    {"rnorelatime", IGNORE, 0},
    {"rnostrictatime", TREE_CLEAR, MOUNT_ATTR_STRICTATIME},
    {"rnosuid", TREE_SET, MOUNT_ATTR_NOSUID},
    {"rnosymfollow", TREE_SET, MOUNT_ATTR_NOSYMFOLLOW},
    {"ro", SET, MS_RDONLY},
    {"rprivate", PROPAGATE, MS_PRIVATE | MS_REC},
    {"rrelatime", TREE_SET, MOUNT_ATTR_RELATIME},
    {"rro", TREE_SET, MOUNT_ATTR_RDONLY},
    {"rrw", TREE_CLEAR, MOUNT_ATTR_RDONLY},
    {"rshared", PROPAGATE, MS_SHARED | MS_REC},
    {"rslave", PROPAGATE, MS_SLAVE | MS_REC},
    {"rstrictatime", TREE_SET, MOUNT_ATTR_STRICTATIME},
    {"rsuid", TREE_CLEAR, MOUNT_ATTR_NOSUID},
    {"rsymfollow", TREE_CLEAR, MOUNT_ATTR_NOSYMFOLLOW},
    {"runbindable", PROPAGATE, MS_UNBINDABLE | MS_REC},
    {"rw", CLEAR, MS_RDONLY},
    {"shared", PROPAGATE, MS_SHARED},
    {"silent", IGNORE, 0},
    {"slave", PROPAGATE, MS_SLAVE},
    {"strictatime", SET, MS_STRICTATIME},
    {"suid", CLEAR, MS_NOSUID},
    {"symfollow", CLEAR, MS_NOSYMFOLLOW},
    {"sync", SET, MS_SYNCHRONOUS},
    {"tmpcopyup", COPY_UP, 0},
    {"unbindable", PROPAGATE, MS_UNBINDABLE},
};

static bool is_time_mode(const char *name, unsigned long bits)
{
	return bits == MOUNT_ATTR_NOATIME || bits == MOUNT_ATTR_STRICTATIME || strcmp(name, "rrelatime") == 0;
}

/* The time mode is a value of several bits: the kernel wants the whole of it cleared when it is set. */
static void apply_to_tree(struct mount_options *options, const struct option *option)
{
	if (is_time_mode(option->name, option->bits)) {
		options->tree_set &= ~(uint64_t)MOUNT_ATTR__ATIME;
		options->tree_clear |= MOUNT_ATTR__ATIME;
		if (option->kind == TREE_SET)
			options->tree_set |= option->bits;
	} else if (option->kind == TREE_SET) {
		options->tree_set |= option->bits;
		options->tree_clear &= ~option->bits;
	} else {
		options->tree_clear |= option->bits;
		options->tree_set &= ~option->bits;
	}
}

static const struct option *find_option(const char *name)
{
	for (size_t i = 0; i < sizeof(options_known) / sizeof(options_known[0]); i++)
		if (strcmp(options_known[i].name, name) == 0)
			return &options_known[i];
	return NULL;
}

enum mount_option_result mount_options_apply(struct mount_options *options, const char *name)
{
	const struct option *option = find_option(name);

	/* crun's form, which holds the mappings. */
	if (strncmp(name, "idmap=", 6) == 0)
		return MOUNT_OPTION_TAKEN;
	if (!option)
		return MOUNT_OPTION_DATA;
	switch (option->kind) {
	case SET:
		options->flags |= option->bits;
		break;
	case CLEAR:
		options->flags &= ~option->bits;
		break;
	case TREE_SET:
	case TREE_CLEAR:
		apply_to_tree(options, option);
		break;
	case PROPAGATE:
		if (options->n_propagate == MOUNT_PROPAGATIONS_MAX)
			return MOUNT_OPTION_REFUSED;
		options->propagate[options->n_propagate++] = option->bits;
		break;
	case COPY_UP:
		options->copy_up = true;
		break;
	case IGNORE:
		break;
	}
	return MOUNT_OPTION_TAKEN;
}

uint64_t mount_options_attributes(unsigned long flags, uint64_t *clear)
{
	uint64_t attributes = 0;

	*clear = 0;
	if (flags & MS_RDONLY)
		attributes |= MOUNT_ATTR_RDONLY;
	if (flags & MS_NOSUID)
		attributes |= MOUNT_ATTR_NOSUID;
	if (flags & MS_NODEV)
		attributes |= MOUNT_ATTR_NODEV;
	if (flags & MS_NOEXEC)
		attributes |= MOUNT_ATTR_NOEXEC;
	if (flags & MS_NODIRATIME)
		attributes |= MOUNT_ATTR_NODIRATIME;
	if (flags & MS_NOSYMFOLLOW)
		attributes |= MOUNT_ATTR_NOSYMFOLLOW;
	if (flags & (MS_STRICTATIME | MS_NOATIME | MS_RELATIME))
		*clear = MOUNT_ATTR__ATIME;
	/* In mount(2) strictatime overrides noatime, and that overrides relatime. */
	if (flags & MS_STRICTATIME)
		attributes |= MOUNT_ATTR_STRICTATIME;
	else if (flags & MS_NOATIME)
		attributes |= MOUNT_ATTR_NOATIME;
	return attributes;
}

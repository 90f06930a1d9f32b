#include "guest-agent/plan_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "common/cleanup.h"
#include "common/path.h"
#include "common/spec_fields.h"
#include "common/spec_values.h"
#include "common/words.h"
#include "guest-agent/disks.h"

/* Export names become one part of a path; what the contract with the file server allows is safe there. */
static bool is_export_name(const char *name)
{
	size_t length = name ? strlen(name) : 0;

	return length >= 1 && length <= 64 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == length;
}

/* Their content is a device, directories or a server of the host's: naming it means nothing to the guest's kernel. What
 * else its kernel does not have, it says itself. */
static const char *const of_host[] = {"9p",	 "btrfs", "ceph",     "cifs",	 "erofs", "ext2", "ext3",     "ext4",
				      "exfat",	 "f2fs",  "fuse",     "iso9660", "msdos", "nfs",  "nfs4",     "ntfs",
				      "overlay", "smb3",  "squashfs", "udf",	 "vfat",  "xfs",  "virtiofs", NULL};

/* An option for the file system may itself be a list, as mount(2) takes it. */
static size_t count_data(const json_t *options)
{
	const json_t *element;
	size_t i, n = 0;

	json_array_foreach(options, i, element)
	{
		const char *text = json_string_value(element);

		n++;
		for (; text && *text; text++)
			n += *text == ',';
	}
	return n;
}

static int add_data(struct plan_mount *mount, const char *text, size_t index, struct error *err)
{
	while (*text) {
		size_t length = strcspn(text, ",");

		/* fsconfig(2) takes no more. */
		if (length > 255)
			return error_set(err, EINVAL, "mounts[%zu].options: an option is longer than 255 bytes", index);
		if (length > 0) {
			mount->data[mount->n_data] = strndup(text, length);
			if (!mount->data[mount->n_data])
				return plan_out_of_memory(err);
			mount->n_data++;
		}
		text += length;
		text += *text == ',';
	}
	return 0;
}

static int read_option(struct plan *plan, struct plan_mount *mount, const char *option, size_t index, struct error *err)
{
	switch (mount_options_apply(&mount->options, option)) {
	case MOUNT_OPTION_TAKEN:
		return 0;
	case MOUNT_OPTION_REFUSED:
		return error_set(err, ENOTSUP, "mounts[%zu].options: %s: more than %d kinds of propagation", index,
				 option, MOUNT_PROPAGATIONS_MAX);
	case MOUNT_OPTION_DATA:
		break;
	}
	/* mount(2) does not look at them either. */
	if (mount->exported || mount->is_socket)
		return json_array_append_new(
			   plan->warnings,
			   json_sprintf("mounts[%zu].options: `%s` means nothing for a bind mount", index, option)) < 0
			   ? plan_out_of_memory(err)
			   : 0;
	return add_data(mount, option, index, err);
}

static int read_options(struct plan *plan, struct plan_mount *mount, const json_t *options, size_t index,
			struct error *err)
{
	const json_t *element;
	size_t i;

	mount->data = plan_array(count_data(options), sizeof(char *));
	if (!mount->data)
		return plan_out_of_memory(err);
	json_array_foreach(options, i, element)
	{
		const char *option = json_string_value(element);

		if (option && read_option(plan, mount, option, index, err) < 0)
			return -1;
	}
	if (mount->options.copy_up && strcmp(mount->type, "tmpfs") != 0)
		return error_set(err, EINVAL, "mounts[%zu].options: tmpcopyup is for tmpfs only", index);
	return 0;
}

/* {"export": NAME, "options": ["nosuid", ...]} */
int plan_export(const json_t *object, const char **name, unsigned long *flags)
{
	struct mount_options options = {0};
	const json_t *option;
	size_t i;

	*name = json_string_value(json_object_get(object, "export"));
	json_array_foreach(json_object_get(object, "options"), i, option)
	{
		const char *text = json_string_value(option);

		if (!text || mount_options_apply(&options, text) != MOUNT_OPTION_TAKEN)
			return -1;
	}
	*flags = options.flags;
	return is_export_name(*name) ? 0 : -1;
}

static bool read_socket(struct plan_mount *mount, const json_t *json)
{
	mount->is_socket = json_is_object(json);
	mount->socket.uid = (uid_t)spec_u64(json, "uid", 0);
	mount->socket.gid = (gid_t)spec_u64(json, "gid", 0);
	mount->socket.mode = (mode_t)spec_u64(json, "mode", 0600) & 07777;
	mount->socket.is_notify = json_is_true(json_object_get(json, "notify"));
	return mount->is_socket;
}

static int read_type(struct plan_mount *mount, const json_t *json, const json_t *exports, size_t index,
		     struct error *err)
{
	if (spec_mount_is_bind(json)) {
		char key[24];

		snprintf(key, sizeof(key), "%zu", index);
		mount->type = "bind";
		if (read_socket(mount, json_object_get(json_object_get(exports, key), "socket")))
			return 0;
		if (plan_export(json_object_get(exports, key), &mount->exported, &mount->source_flags) < 0)
			return error_set(err, EINVAL, "mounts[%zu]: the order names no export for this bind mount",
					 index);
		mount->writable = json_object_get(json_object_get(exports, key), "writable");
		return 0;
	}
	mount->type = spec_mount_is_own_proc(json) ? "proc" : spec_text(json, "type", "");
	if (*mount->type == '\0')
		return error_set(err, EINVAL, "mounts[%zu].type must be given for what is no bind mount", index);
	/* Of those on a disk, disks.h has put the node into the source. */
	if (is_one_of(of_host, mount->type) &&
	    !(spec_is_disk_type(mount->type) && disks_is_node(spec_text(json, "source", ""))))
		return error_set(err, ENOTSUP, "mounts[%zu].type: `%s` is not supported: its source is the host's",
				 index, mount->type);
	return 0;
}

static int read_mount(struct plan *plan, struct plan_mount *mount, const json_t *json, const json_t *exports,
		      size_t index, struct error *err)
{
	const char *destination = spec_text(json, "destination", "");

	if (*destination == '\0')
		return error_set(err, EINVAL, "mounts[%zu].destination must not be empty", index);
	mount->destination = path_clean(destination);
	if (!mount->destination)
		return plan_out_of_memory(err);
	if (strcmp(mount->destination, "/") == 0)
		return error_set(err, EINVAL, "mounts[%zu].destination: a mount over / is not supported", index);
	if (read_type(mount, json, exports, index, err) < 0)
		return -1;
	mount->source = spec_text(json, "source", "");
	if (*mount->source == '\0')
		mount->source = mount->type;
	return read_options(plan, mount, json_object_get(json, "options"), index, err);
}

int plan_mounts(struct plan *plan, const json_t *array, const json_t *exports, struct error *err)
{
	const json_t *element;
	size_t i;

	plan->mounts = plan_array(json_array_size(array), sizeof(struct plan_mount));
	if (!plan->mounts)
		return plan_out_of_memory(err);
	json_array_foreach(array, i, element)
	{
		/* Counted first: plan_free must see what a half-read one holds. */
		struct plan_mount *mount = &plan->mounts[plan->n_mounts++];

		if (!json_is_object(element))
			return error_set(err, EINVAL, "mounts[%zu] must be an object", i);
		if (read_mount(plan, mount, element, exports, i, err) < 0)
			return -1;
	}
	return 0;
}

void plan_free_mounts(struct plan *plan)
{
	for (size_t i = 0; i < plan->n_mounts; i++) {
		struct plan_mount *mount = &plan->mounts[i];

		for (size_t k = 0; k < mount->n_data; k++)
			free(mount->data[k]);
		free(mount->data);
		free(mount->destination);
	}
	free(plan->mounts);
}

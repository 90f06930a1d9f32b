/*
 * The config.json that `runc spec` writes, without its terminal, as text and as the create order around it.
 */
#pragma once

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/spec_fields.h"

static const char sample_config[] =
    "{\"ociVersion\":\"1.0.2-dev\",\"process\":{\"terminal\":false,\"user\":{\"uid\":0,\"gid\":0},\"args\":[\"sh\"],"
    "\"env\":[\"PATH=/usr/bin:/bin\",\"TERM=xterm\"],\"cwd\":\"/\",\"capabilities\":{"
    "\"bounding\":[\"CAP_AUDIT_WRITE\",\"CAP_KILL\",\"CAP_NET_BIND_SERVICE\"],"
    "\"effective\":[\"CAP_AUDIT_WRITE\",\"CAP_KILL\",\"CAP_NET_BIND_SERVICE\"],"
    "\"permitted\":[\"CAP_AUDIT_WRITE\",\"CAP_KILL\",\"CAP_NET_BIND_SERVICE\"],"
    "\"ambient\":[\"CAP_AUDIT_WRITE\",\"CAP_KILL\",\"CAP_NET_BIND_SERVICE\"]},"
    "\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"hard\":1024,\"soft\":1024}],\"noNewPrivileges\":true},"
    "\"root\":{\"path\":\"rootfs\",\"readonly\":true},\"hostname\":\"runc\",\"mounts\":["
    "{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
    "{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\","
    "\"options\":[\"nosuid\",\"strictatime\",\"mode=755\",\"size=65536k\"]},"
    "{\"destination\":\"/dev/pts\",\"type\":\"devpts\",\"source\":\"devpts\","
    "\"options\":[\"nosuid\",\"noexec\",\"newinstance\",\"ptmxmode=0666\",\"mode=0620\",\"gid=5\"]},"
    "{\"destination\":\"/sys\",\"type\":\"sysfs\",\"source\":\"sysfs\","
    "\"options\":[\"nosuid\",\"noexec\",\"nodev\",\"ro\"]}],"
    "\"linux\":{\"resources\":{\"devices\":[{\"allow\":false,\"access\":\"rwm\"}]},"
    "\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"network\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":"
    "\"mount\"}],"
    "\"maskedPaths\":[\"/proc/kcore\"],\"readonlyPaths\":[\"/proc/sys\"]}}";

static inline json_t *spec_new(void)
{
	struct error err;

	return spec_parse(sample_config, strlen(sample_config), &err);
}

/* Takes the reference to spec. */
static inline json_t *order_around(json_t *spec)
{
	return json_pack("{s:s, s:s, s:o, s:{s:s}, s:{s:i, s:i, s:n}}", "order", "create", "id", "c1", "spec", spec,
			 "rootfs", "export", "rootfs", "stdio", "stdin", 1040, "stdout", 1041, "stderr");
}

/* Sets the value at a path of names and indices divided by slashes, "process/args/0"; the value is JSON text. */
static inline void spec_set(json_t *spec, const char *path, const char *value)
{
	json_t *new_value = json_loads(value, JSON_DECODE_ANY, NULL);
	json_t *at = spec;
	char name[64];

	for (;;) {
		size_t length = strcspn(path, "/");
		json_t *next;

		snprintf(name, sizeof(name), "%.*s", (int)length, path);
		if (path[length] == '\0')
			break;
		next = json_is_array(at) ? json_array_get(at, (size_t)atoi(name)) : json_object_get(at, name);
		if (!next) {
			next = json_object();
			if (json_object_set_new(at, name, next) < 0) {
				json_decref(new_value);
				return;
			}
		}
		at = next;
		path += length + 1;
	}
	if (json_is_array(at) && (size_t)atoi(name) >= json_array_size(at))
		json_array_append_new(at, new_value);
	else if (json_is_array(at))
		json_array_set_new(at, (size_t)atoi(name), new_value);
	else
		json_object_set_new(at, name, new_value);
}

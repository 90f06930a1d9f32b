#include "runtime/create_order.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <time.h>

#include "common/agent_protocol.h"

const char *const shared_kind_names[SHARED_KINDS] = {
    [SHARED_PID] = "pid",	[SHARED_NETWORK] = "network", [SHARED_IPC] = "ipc",  [SHARED_UTS] = "uts",
    [SHARED_CGROUP] = "cgroup", [SHARED_USER] = "user",	      [SHARED_TIME] = "time"};

static void write_export(FILE *out, const struct export *export)
{
	static const struct {
		unsigned long flag;
		const char *option;
	} options[] = {
	    {ST_RDONLY, "ro"},	     {ST_NOSUID, "nosuid"},	    {ST_NODEV, "nodev"},       {ST_NOEXEC, "noexec"},
	    {ST_NOATIME, "noatime"}, {ST_NODIRATIME, "nodiratime"}, {ST_RELATIME, "relatime"},
	};
	const char *separator = "";

	if (export->is_socket) {
		fprintf(out, "{\"socket\":{\"uid\":%u,\"gid\":%u,\"mode\":%u}}", export->uid, export->gid,
			export->mode);
		return;
	}
	fprintf(out, "{\"export\":\"%s\",\"options\":[", export->name);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (!(export->host_flags & options[i].flag))
			continue;
		fprintf(out, "%s\"%s\"", separator, options[i].option);
		separator = ",";
	}
	fputc(']', out);
	if (json_array_size(export->writable) > 0) {
		fputs(",\"writable\":", out);
		json_dumpf(export->writable, out, JSON_COMPACT);
	}
	fputc('}', out);
}

/* The root file system, where it is exported, is the first. */
static void write_exports(FILE *out, const struct exports *exports)
{
	size_t first = exports->rootfs_is_disk ? 0 : 1;
	const char *separator = "";

	if (first > 0) {
		fputs("\"rootfs\":", out);
		write_export(out, &exports->list[0]);
		fputc(',', out);
	}
	fputs("\"mounts\":{", out);
	for (size_t i = first; i < exports->n; i++) {
		fprintf(out, "%s\"%zu\":", separator, exports->list[i].mount);
		write_export(out, &exports->list[i]);
		separator = ",";
	}
	fputs("},", out);
}

static void write_disk(FILE *out, const struct disk *disk)
{
	fprintf(out, "{\"serial\":\"%s\",", disk->serial);
	switch (disk->use) {
	case DISK_ROOTFS:
		fputs("\"rootfs\":true}", out);
		break;
	case DISK_MOUNT:
		fprintf(out, "\"mount\":%zu}", disk->index);
		break;
	case DISK_DEVICE:
		fprintf(out, "\"device\":%zu}", disk->index);
		break;
	case DISK_NAMED:
		fprintf(out, "\"name\":\"%s\"}", disk->name);
		break;
	}
}

static void write_disks(FILE *out, const struct disks *disks)
{
	if (!disks || disks->n == 0)
		return;
	fputs("\"disks\":[", out);
	for (size_t i = 0; i < disks->n; i++) {
		if (i > 0)
			fputc(',', out);
		write_disk(out, &disks->list[i]);
	}
	fputs("],", out);
}

static void write_stdio(FILE *out, const struct create_order *order)
{
	static const char *const names[STDIO_COUNT] = {
	    [STDIO_IN] = "stdin", [STDIO_OUT] = "stdout", [STDIO_ERR] = "stderr"};
	const struct window *window = &order->window;

	fputs("\"stdio\":{", out);
	for (int i = 0; i < STDIO_COUNT; i++) {
		fprintf(out, "%s\"%s\":", i > 0 ? "," : "", names[i]);
		if (order->ports[i])
			fprintf(out, "%u", order->ports[i]);
		else
			fputs("null", out);
	}
	if (window->columns && window->rows)
		fprintf(out, ",\"window\":{\"width\":%u,\"height\":%u}", window->columns, window->rows);
	if (order->preserved)
		preserved_write(order->preserved, out);
	fputs("},", out);
}

static void write_joined(FILE *out, const char *const joined[SHARED_KINDS])
{
	const char *separator = "";

	fputs("\"namespaces\":{", out);
	for (int kind = 0; kind < SHARED_KINDS; kind++) {
		if (!joined[kind])
			continue;
		fprintf(out, "%s\"%s\":\"%s\"", separator, shared_kind_names[kind], joined[kind]);
		separator = ",";
	}
	fputs("},", out);
}

/* What hooks in the guest find in their state. A path that is not UTF-8 cannot be a JSON string: they do without. */
static void write_bundle(FILE *out, const char *path)
{
	json_t *string = path ? json_string(path) : NULL;

	fputs("\"bundle\":", out);
	if (!string || json_dumpf(string, out, JSON_ENCODE_ANY) < 0)
		fputs("\"\"", out);
	fputc(',', out);
	json_decref(string);
}

/* Without random bytes at hand the guest has what it gathered itself: the order is not worth less for it. */
static void write_seed(FILE *out)
{
	unsigned char seed[AGENT_SEED_SIZE];

	if (getrandom(seed, sizeof(seed), 0) != sizeof(seed))
		return;
	fputs("\"seed\":\"", out);
	for (size_t i = 0; i < sizeof(seed); i++)
		fprintf(out, "%02x", seed[i]);
	fputs("\",", out);
	explicit_bzero(seed, sizeof(seed));
}

/* Ids and names of exports hold nothing that JSON would escape: see state_check_id. */
static void write_order(FILE *out, const struct create_order *order)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	fprintf(out, "{\"order\":\"create\",\"id\":\"%s\",\"machine\":%s,\"tied\":%s,\"time\":%lld%09ld,", order->id,
		order->machine ? "true" : "false", order->tied ? "true" : "false", (long long)now.tv_sec, now.tv_nsec);
	write_seed(out);
	if (order->traced)
		fputs("\"trace\":true,", out);
	if (order->reports_oom)
		fputs("\"reportOom\":true,", out);
	if (order->notifies)
		fputs("\"notify\":true,", out);
	if (order->lingers)
		fputs("\"lingers\":true,", out);
	write_exports(out, order->exports);
	write_disks(out, order->disks);
	write_stdio(out, order);
	write_joined(out, order->joined);
	write_bundle(out, order->bundle);
	if (order->filter->n > 0) {
		fputs("\"seccomp\":", out);
		syscall_filter_write(order->filter, out);
		fputc(',', out);
	}
	fprintf(out, "\"spec\":");
	fwrite(order->spec->text, 1, order->spec->size, out);
	fputc('}', out);
}

char *create_order_format(const struct create_order *order, size_t *size)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, size);

	if (!out)
		return NULL;
	write_order(out, order);
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

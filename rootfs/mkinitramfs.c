/*
 * mkinitramfs AGENT OUTPUT: writes the initramfs of the guest.
 *
 * It is an uncompressed "newc" cpio archive (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst)
 * with the static program AGENT as /init and the directories and device nodes that it needs before it has mounted
 * anything. The same input gives the same bytes: names are sorted, times are 0, owners are root. The file ends on a
 * page boundary (zeroes after the trailer are legal), so that the VMM can map it into guest memory instead of reading
 * it. OUTPUT appears whole or not at all.
 */

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES 4096

struct node {
	const char *name;
	mode_t mode;
	unsigned int major_number, minor_number;
	bool is_agent;
};

/* Sorted by name; a directory stands before what it holds. */
static const struct node nodes[] = {
    {.name = "dev", .mode = S_IFDIR | 0755},
    {.name = "dev/console", .mode = S_IFCHR | 0600, .major_number = 5, .minor_number = 1},
    {.name = "dev/null", .mode = S_IFCHR | 0666, .major_number = 1, .minor_number = 3},
    {.name = "init", .mode = S_IFREG | 0755, .is_agent = true},
    {.name = "proc", .mode = S_IFDIR | 0555},
    {.name = "run", .mode = S_IFDIR | 0755},
    {.name = "sys", .mode = S_IFDIR | 0555},
    {.name = "tmp", .mode = S_IFDIR | S_ISVTX | 0777},
};

/* The agent, mapped. Lives until the program ends. */
struct agent {
	const void *data;
	size_t size;
};

static int agent_open(const char *path, struct agent *agent)
{
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &status) < 0) {
		fprintf(stderr, "mkinitramfs: open %s: %s\n", path, strerror(errno));
		return -1;
	}
	if (!S_ISREG(status.st_mode) || status.st_size == 0) {
		fprintf(stderr, "mkinitramfs: %s: not a regular file, or empty\n", path);
		return -1;
	}
	agent->size = (size_t)status.st_size;
	agent->data = mmap(NULL, agent->size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (agent->data == MAP_FAILED) {
		fprintf(stderr, "mkinitramfs: map %s: %s\n", path, strerror(errno));
		return -1;
	}
	if (agent->size < 4 || memcmp(agent->data, "\177ELF", 4) != 0) {
		fprintf(stderr, "mkinitramfs: %s: not an ELF program\n", path);
		return -1;
	}
	return 0;
}

static int node_write(struct archive *archive, const struct node *node, int64_t inode, const struct agent *agent)
{
	struct archive_entry *entry = archive_entry_new();
	size_t size = node->is_agent ? agent->size : 0;
	int result = -1;

	if (!entry)
		return -1;
	archive_entry_set_pathname(entry, node->name);
	archive_entry_set_mode(entry, node->mode);
	archive_entry_set_ino64(entry, inode);
	archive_entry_set_nlink(entry, S_ISDIR(node->mode) ? 2 : 1);
	archive_entry_set_mtime(entry, 0, 0);
	archive_entry_set_size(entry, (int64_t)size);
	if (S_ISCHR(node->mode)) {
		archive_entry_set_rdevmajor(entry, node->major_number);
		archive_entry_set_rdevminor(entry, node->minor_number);
	}
	if (archive_write_header(archive, entry) == ARCHIVE_OK &&
	    (size == 0 || archive_write_data(archive, agent->data, size) == (la_ssize_t)size))
		result = 0;
	archive_entry_free(entry);
	return result;
}

static int nodes_write(struct archive *archive, int fd, const struct agent *agent)
{
	if (archive_write_set_format_cpio_newc(archive) != ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(archive, PAGE_BYTES) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(archive, PAGE_BYTES) != ARCHIVE_OK ||
	    archive_write_open_fd(archive, fd) != ARCHIVE_OK)
		return -1;
	for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++)
		if (node_write(archive, &nodes[i], (int64_t)i + 1, agent) < 0)
			return -1;
	return archive_write_close(archive) == ARCHIVE_OK ? 0 : -1;
}

static int archive_to(int fd, const char *path, const struct agent *agent)
{
	struct archive *archive = archive_write_new();
	int result = archive ? nodes_write(archive, fd, agent) : -1;

	if (result < 0) {
		const char *reason = archive ? archive_error_string(archive) : NULL;

		fprintf(stderr, "mkinitramfs: write %s: %s\n", path, reason ? reason : "out of memory");
	}
	archive_write_free(archive);
	return result;
}

int main(int argc, char **argv)
{
	char temporary[4096];
	struct agent agent;
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: mkinitramfs AGENT OUTPUT\n");
		return 2;
	}
	if (agent_open(argv[1], &agent) < 0)
		return 1;
	if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", argv[2]) >= (int)sizeof temporary) {
		fprintf(stderr, "mkinitramfs: %s: the name is too long\n", argv[2]);
		return 1;
	}
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0) {
		fprintf(stderr, "mkinitramfs: create %s: %s\n", temporary, strerror(errno));
		return 1;
	}
	if (archive_to(fd, argv[2], &agent) == 0) {
		if (fchmod(fd, 0644) == 0 && close(fd) == 0 && rename(temporary, argv[2]) == 0)
			return 0;
		fprintf(stderr, "mkinitramfs: write %s: %s\n", argv[2], strerror(errno));
	}
	unlink(temporary);
	return 1;
}

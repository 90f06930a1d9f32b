/* Reading directories. */
#include "tests/integration/fsops/fsops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *path)
{
	char *names[100] = {NULL};
	unsigned count = 0;
	DIR *dir = opendir(path);
	struct dirent *entry;

	start_line("list %s:", path);
	while (dir && (entry = readdir(dir)) && count < 100)
		asprintf(&names[count++], "%s=%u", entry->d_name, entry->d_type);
	if (!dir)
		printf(" %s", strerrorname_np(errno));
	else
		closedir(dir);
	qsort(names, count, sizeof(names[0]), compare_names);
	for (unsigned i = 0; i < count; free(names[i++]))
		printf(" %s", names[i]);
	putchar('\n');
}

static unsigned count_entries(DIR *dir)
{
	unsigned count = 0;

	while (dir && readdir(dir))
		count++;
	return count;
}

#define MANY 1500 /* more than one getdents of the file server */

void try_directories(void)
{
	char path[64], first[300];
	unsigned made = 0, seen = 0;
	struct statvfs fs;
	struct dirent *entry;
	long position;
	DIR *dir;
	int fd;

	OP(mkdir("l.dir", 0755));
	list("l.dir");
	for (unsigned kind = 0; kind < KINDS; kind++) {
		snprintf(path, sizeof(path), "l.dir/%s", kinds[kind]);
		make_kind(kind, path);
	}
	list("l.dir");
	show("l.dir");
	for (unsigned kind = 0; kind < KINDS; kind++) {
		snprintf(path, sizeof(path), "l.dir/%s", kinds[kind]);
		remove_kind(path);
	}
	list("l.dir");
	OP(rmdir("l.dir"));
	list("l.none");
	OP(mkdir("l.many", 0755));
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(path, sizeof(path), "l.many/entry%05u", i);
		fd = open(path, O_CREAT | O_WRONLY, 0644);
		made += fd >= 0;
		close(fd);
	}
	OP(made);
	dir = opendir("l.many");
	if (!dir) {
		puts("# cannot list l.many");
		return;
	}
	OP(count_entries(dir));
	rewinddir(dir);
	OP(count_entries(dir));
	rewinddir(dir);
	for (unsigned i = 0; i < MANY / 2; i++)
		readdir(dir);
	position = telldir(dir);
	entry = readdir(dir);
	snprintf(first, sizeof(first), "%s", entry ? entry->d_name : "?");
	OP(count_entries(dir));
	seekdir(dir, position);
	entry = readdir(dir);
	OP(entry ? strcmp(entry->d_name, first) : 1);
	rewinddir(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		seen++;
		unlinkat(dirfd(dir), entry->d_name, 0);
	}
	OP(seen);
	closedir(dir);
	OP(rmdir("l.many"));
	OP(statvfs(".", &fs));
	OP(fs.f_namemax);
	OP(fs.f_bsize);
	OP(fs.f_blocks > 0 && fs.f_bfree <= fs.f_blocks);
	fd = open(".", O_RDONLY);
	OP(fsync(fd));
	OP(fdatasync(fd));
	OP(read(fd, path, 10));
	OP(ftruncate(fd, 0));
	OP(flock(fd, LOCK_EX | LOCK_NB));
	close(fd);
}

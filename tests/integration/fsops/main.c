/*
 * Several hundred file operations in a directory, one line each: what was done, what came back, and what the file then
 * looks like. No line holds a time, an inode number or anything else that differs between two runs, so that two
 * implementations of a file system are compared by diff.
 *
 *   fsops DIRECTORY       DIRECTORY is made and must not exist; it is left behind for a look from the other side
 *
 * To be run as root with the capabilities that a container of an engine has (not CAP_SYS_ADMIN).
 */
#include "tests/integration/fsops/fsops.h"

#include <string.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 1 << 12);
	umask(022);
	if (argc != 2 || mkdir(argv[1], 0755) < 0 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: fsops DIRECTORY (which must not exist): %s\n", strerror(errno));
		return 2;
	}
	try_kinds();
	try_names();
	try_modes();
	try_times();
	try_data();
	try_attributes();
	try_directories();
	try_locks();
	printf("%u lines\n", line_number);
	return 0;
}

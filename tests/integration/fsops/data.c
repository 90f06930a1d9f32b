/* Reading and writing. */
#include "tests/integration/fsops/fsops.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

static void try_all_data(void)
{
	static char buffer[300000], back[300000];
	struct iovec iovecs[3] = {{"one", 3}, {"two", 3}, {"three", 5}};
	struct rlimit limit = {1000, RLIM_INFINITY};
	int fd = OPEN(open("d.file", O_RDWR | O_CREAT | O_EXCL, 0644)), other;

	for (size_t i = 0; i < sizeof(buffer); i++)
		buffer[i] = (char)(i * 7 + i / 4096);
	OP(write(fd, buffer, sizeof(buffer)));
	OP(pread(fd, back, sizeof(back), 0));
	OP(memcmp(buffer, back, sizeof(back)));
	OP(pread(fd, back, 100, 299990));
	OP(pread(fd, back, 100, 300000));
	OP(pread(fd, back, 100, 1ll << 40));
	OP(pread(fd, back, 100, -1));
	OP(pwrite(fd, "x", 1, -1));
	OP(lseek(fd, 0, SEEK_END));
	OP(lseek(fd, -5, SEEK_CUR));
	OP(read(fd, back, 100));
	OP(lseek(fd, -1, SEEK_SET));
	OP(lseek(fd, 10, 77));
	OP(pwritev(fd, iovecs, 3, 4094));
	OP(pread(fd, back, 11, 4094));
	OP(memcmp(back, "onetwothree", 11));
	OP(pwritev2(fd, iovecs, 3, 0, RWF_APPEND));
	OP(pwritev2(fd, iovecs, 3, 0, RWF_DSYNC));
	OP(pwritev2(fd, iovecs, 3, 20, RWF_SYNC));
	show("d.file");
	OP(ftruncate(fd, 5000));
	OP(ftruncate(fd, 10000));
	OP(pread(fd, back, 10000, 0));
	OP(back[4999] != 0);
	OP(back[5000]);
	OP(ftruncate(fd, -1));
	OP(ftruncate(fd, 0));
	OP(pread(fd, back, 10, 0));
	OP(pwrite(fd, "far", 3, 1ll << 33));
	show("d.file");
	OP(lseek(fd, 0, SEEK_DATA) >= 0);
	OP(lseek(fd, 0, SEEK_HOLE));
	OP(lseek(fd, 1ll << 34, SEEK_DATA));
	OP(ftruncate(fd, 100));
	close(fd);
	fd = OPEN(open("d.append", O_RDWR | O_CREAT | O_APPEND, 0644));
	other = OPEN(open("d.append", O_WRONLY));
	OP(write(fd, "one", 3));
	OP(write(other, "ONE ", 4));
	OP(pwrite(fd, "two", 3, 0));
	OP(write(other, "FOUR", 4));
	OP(lseek(fd, 0, SEEK_SET));
	OP(write(fd, "end", 3));
	OP(lseek(fd, 0, SEEK_CUR));
	OP(fcntl(fd, F_SETFL, 0));
	OP(pwrite(fd, "!", 1, 0));
	OP(fcntl(other, F_SETFL, O_APPEND));
	OP(write(other, "last", 4));
	close(fd);
	close(other);
	show_content("d.append");
	fd = OPEN(open("d.append", O_RDONLY));
	OP(write(fd, "x", 1));
	OP(ftruncate(fd, 0));
	OP(fallocate(fd, 0, 0, 10));
	close(fd);
	fd = OPEN(open("d.append", O_WRONLY));
	OP(read(fd, back, 1));
	close(fd);
	fd = OPEN(open("d.sync", O_RDWR | O_CREAT | O_SYNC, 0644));
	OP(write(fd, buffer, sizeof(buffer)));
	OP(pread(fd, back, sizeof(back), 0));
	OP(memcmp(buffer, back, sizeof(back)));
	OP(fdatasync(fd));
	OP(fsync(fd));
	OP(syncfs(fd));
	close(fd);
	fd = OPEN(open("d.direct", O_RDWR | O_CREAT | O_DSYNC, 0644));
	OP(write(fd, buffer, 8192));
	close(fd);
	OP(truncate("d.none", 1));
	OP(truncate("d.file", -1));
	OP(truncate(".", 1));
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	fd = OPEN(open("d.limit", O_RDWR | O_CREAT, 0644));
	OP(write(fd, buffer, 2000));
	OP(write(fd, buffer, 2000));
	OP(ftruncate(fd, 2000));
	OP(truncate("d.limit", 2000));
	close(fd);
	show("d.limit");
	limit.rlim_cur = RLIM_INFINITY;
	setrlimit(RLIMIT_FSIZE, &limit);
	OP(truncate("d.limit", 1ll << 62));
	OP(open("d.excl", O_WRONLY | O_CREAT | O_EXCL, 0644) < 0);
	OP(open("d.excl", O_WRONLY | O_CREAT | O_EXCL, 0644));
	OP(open("d.none", O_RDWR));
	OP(open("d.excl", O_RDONLY | O_DIRECTORY));
	OP(open("d.excl", O_RDWR | O_TRUNC) < 0);
}

static void ranges(void)
{
	static char buffer[65536], back[65536];
	int fd = OPEN(open("f.file", O_RDWR | O_CREAT, 0644)), copy;
	struct stat st;

	memset(buffer, 'b', sizeof(buffer));
	OP(write(fd, buffer, sizeof(buffer)));
	OP(fallocate(fd, 0, 0, 100000));
	show("f.file");
	OP(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
	show("f.file");
	OP(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192));
	OP(pread(fd, back, sizeof(back), 0));
	OP(back[4095]);
	OP(back[4096]);
	OP(back[12287]);
	OP(back[12288]);
	OP(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
	OP(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 10));
	OP(pread(fd, back, 200, 0));
	OP(back[99] + back[100] + back[109] + back[110]);
	OP(fallocate(fd, 0, -1, 10));
	OP(fallocate(fd, 0, 0, 0));
	OP(posix_fallocate(fd, 0, 200000));
	show("f.file");
	copy = OPEN(open("f.copy", O_RDWR | O_CREAT, 0644));
	OP(copy_file_range(fd, &(off_t){0}, copy, &(off_t){0}, 65536, 0));
	OP(copy_file_range(fd, &(off_t){50}, copy, &(off_t){100000}, 1000, 0));
	OP(copy_file_range(fd, &(off_t){10000000}, copy, &(off_t){0}, 1000, 0));
	OP(copy_file_range(fd, &(off_t){0}, fd, &(off_t){10}, 100, 0));
	OP(copy_file_range(fd, &(off_t){0}, copy, &(off_t){0}, 10, 1));
	show("f.copy");
	OP(pread(copy, back, 65536, 0));
	OP(back[0] + back[4096] + back[12288]);
	OP(sendfile(copy, fd, &(off_t){0}, 5000));
	OP(fstat(copy, &st));
	OP(ftruncate(copy, 1 << 20));
	OP(ftruncate(copy, 0));
	OP(pwrite(copy, buffer, 4096, 1 << 20));
	OP(lseek(copy, 0, SEEK_DATA));
	OP(lseek(copy, 1 << 20, SEEK_HOLE));
	OP(fstat(copy, &st) == 0 && st.st_blocks < 100);
	OP(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	OP(readahead(fd, 0, 4096));
	OP(sync_file_range(fd, 0, 4096, SYNC_FILE_RANGE_WRITE));
	close(fd);
	close(copy);
}

static void mapped(void)
{
	char *shared, *private, *second, back[10];
	int fd = OPEN(open("mm.file", O_RDWR | O_CREAT, 0644)), pipes[2];

	OP(ftruncate(fd, 8192));
	shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	second = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
	private = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	OP(shared == MAP_FAILED || second == MAP_FAILED || private == MAP_FAILED);
	memcpy(shared + 4090, "across pages", 12);
	OP(memcmp(second + 4090, "across pages", 12));
	OP(pread(fd, back, 10, 4090));
	OP(memcmp(back, "across pag", 10));
	private[0] = 'p';
	OP(pread(fd, back, 1, 0));
	OP(back[0]);
	OP(pwrite(fd, "written", 7, 100));
	OP(memcmp(shared + 100, "written", 7));
	OP(msync(shared, 8192, MS_SYNC));
	OP(close(fd));
	shared[1] = 's';
	OP(munmap(shared, 8192));
	OP(unlink("mm.file"));
	OP(second[1]);
	fd = open("mm.read", O_RDONLY | O_CREAT, 0644);
	OP(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	close(fd);
	make_file("mm.exec", "#!/bin/none\n", 0755);
	OP(execl("mm.exec", "mm.exec", NULL));
	OP(chmod("mm.exec", 0644));
	OP(execl("mm.exec", "mm.exec", NULL));
	make_file("mm.splice", "spliced data", 0644);
	fd = open("mm.splice", O_RDWR);
	OP(pipe(pipes));
	OP(splice(fd, &(off_t){0}, pipes[1], NULL, 7, 0));
	OP(splice(pipes[0], NULL, fd, &(off_t){20}, 7, 0));
	close(fd);
	show_content("mm.splice");
}

static void without_name(void)
{
	char text[64], path[64];
	int fd, dir;

	make_file("u.file", "still here", 0644);
	fd = OPEN(open("u.file", O_RDWR));
	OP(unlink("u.file"));
	show_fd("deleted file", fd);
	OP(pread(fd, text, 20, 0));
	OP(pwrite(fd, "more", 4, 10));
	OP(ftruncate(fd, 5));
	OP(fchmod(fd, 0600));
	OP(fchown(fd, 5, 5));
	OP(futimens(fd, (struct timespec[2]){{1, 0}, {1, 0}}));
	OP(fsetxattr(fd, "user.gone", "1", 1, 0));
	OP(fgetxattr(fd, "user.gone", text, 20));
	show_fd("deleted file", fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OP(linkat(AT_FDCWD, path, AT_FDCWD, "u.back", AT_SYMLINK_FOLLOW));
	OP(open(path, O_RDONLY) < 0);
	close(fd);
	fd = OPEN(open(".", O_TMPFILE | O_RDWR, 0640));
	OP(write(fd, "temporary", 9));
	show_fd("O_TMPFILE", fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OP(linkat(AT_FDCWD, path, AT_FDCWD, "u.named", AT_SYMLINK_FOLLOW));
	show("u.named");
	show_content("u.named");
	OP(linkat(AT_FDCWD, path, AT_FDCWD, "u.named", AT_SYMLINK_FOLLOW));
	close(fd);
	fd = OPEN(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0640));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OP(linkat(AT_FDCWD, path, AT_FDCWD, "u.never", AT_SYMLINK_FOLLOW));
	close(fd);
	OP(open(".", O_TMPFILE | O_RDONLY, 0640));
	OP(open("u.named", O_TMPFILE | O_RDWR, 0640));
	AS_USER
	{
		OP(open(".", O_TMPFILE | O_RDWR, 0640));
	}
	OP(mkdir("u.dir", 0755));
	dir = OPEN(open("u.dir", O_RDONLY | O_DIRECTORY));
	OP(rmdir("u.dir"));
	show_fd("deleted directory", dir);
	OP(mkdirat(dir, "x", 0755));
	OP(openat(dir, "x", O_CREAT | O_WRONLY, 0644));
	OP(openat(dir, ".", O_RDONLY) < 0);
	OP(fchmod(dir, 0700));
	close(dir);
}

void try_data(void)
{
	try_all_data();
	ranges();
	mapped();
	without_name();
}

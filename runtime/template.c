#include "runtime/template.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/close_range.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/spec_values.h"
#include "runtime/agent.h"
#include "runtime/bare_machine.h"
#include "runtime/exports.h"
#include "runtime/kernel_cmdline.h"
#include "runtime/report.h"

#define STATE_FILE "state"
#define MEMORY_FILE "memory"
#define ABOUT_FILE "about" /* JSON, for template_list */
#define CONTROL_SOCKET "control"
#define LOCK_FILE "lock"
/* Where one is made; what a killed maker has left there is removed by the next. */
#define NEW_FOLDER "new"
#define ABOUT_MAX 4096
#define NICENESS 10
#define LARGE_PAGE_SIZE (2u << 20)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

/* --- the folder of all ------------------------------------------------------------------------------------------- */

static int find_path(char *path, size_t size, struct error *err)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0)
		snprintf(path, size, "/run/hull-templates");
	else if (!runtime || !*runtime || (size_t)snprintf(path, size, "%s/hull-templates", runtime) >= size)
		return error_set(err, ENOENT, "no XDG_RUNTIME_DIR to keep templates in");
	return 0;
}

/* Everything that is believed of a template rests on nobody else being able to write here. */
static int check_folder(int folder, const char *path, struct error *err)
{
	struct stat status;

	if (fstat(folder, &status) < 0)
		return error_set_errno(err, "folder of templates `%s`", path);
	if (status.st_uid != geteuid() || status.st_mode & 077)
		return error_set(err, EPERM,
				 "folder of templates `%s`: belongs to user %u with mode %o, not to %u with 700", path,
				 status.st_uid, status.st_mode & 07777, geteuid());
	return 0;
}

static int open_all(bool make, struct error *err)
{
	cleanup_close int folder = -1;
	char path[4096];

	if (find_path(path, sizeof(path), err) < 0)
		return -1;
	if (make && mkdir(path, 0700) < 0 && errno != EEXIST)
		return error_set_errno(err, "make folder of templates `%s`", path);
	folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (folder < 0)
		return error_set_errno(err, "open folder of templates `%s`", path);
	return check_folder(folder, path, err) < 0 ? -1 : take_fd(&folder);
}

int template_lock(bool wait, struct error *err)
{
	cleanup_close int all = open_all(true, err);
	cleanup_close int lock = -1;

	if (all < 0)
		return -1;
	lock = openat(all, LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (lock < 0)
		return error_set_errno(err, "open the lock of templates");
	if (flock(lock, wait ? LOCK_EX : LOCK_EX | LOCK_NB) < 0)
		return error_set_errno(err, "somebody else is making a template");
	return take_fd(&lock);
}

static bool is_name(const char *text)
{
	return strlen(text) == TEMPLATE_NAME_SIZE - 1 && strspn(text, "0123456789abcdef") == TEMPLATE_NAME_SIZE - 1;
}

static int open_folder(int all, const char *name, struct error *err)
{
	int folder = openat(all, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return folder < 0 ? error_set_errno(err, "open template %s", name) : folder;
}

/* There are no folders in it. */
static int remove_folder(int all, const char *name, struct error *err)
{
	int folder = open_folder(all, name, err);
	struct dirent *entry;
	DIR *stream;

	if (folder < 0)
		return err->code == ENOENT ? 0 : -1;
	stream = fdopendir(folder);
	if (!stream) {
		close(folder);
		return error_set_errno(err, "read template %s", name);
	}
	while ((entry = readdir(stream)))
		unlinkat(folder, entry->d_name, 0); /* what stays makes the removal fail */
	closedir(stream);
	if (unlinkat(all, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return error_set_errno(err, "remove template %s", name);
	return 0;
}

/* --- which one --------------------------------------------------------------------------------------------------- */

/* FNV-1a. A collision does no harm: the VMM compares what was hashed. */
static uint64_t hash_text(uint64_t hash, const char *text)
{
	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
	return hash;
}

static int identify_file(int fd, const char *what, char *text, size_t size, struct error *err)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return error_set_errno(err, "stat of the guest's %s", what);
	snprintf(text, size, "%s %llx:%llx:%llx:%llx.%lx", what, (unsigned long long)status.st_dev,
		 (unsigned long long)status.st_ino, (unsigned long long)status.st_size,
		 (unsigned long long)status.st_ctim.tv_sec, (unsigned long)status.st_ctim.tv_nsec);
	return 0;
}

int template_identify(const struct resources *resources, const struct vm_size *size, struct template_key *key,
		      struct error *err)
{
	const uint64_t start = 0xcbf29ce484222325u;
	char kernel[80], initramfs[80], all[320];

	if (identify_file(resources->kernel, "kernel", kernel, sizeof(kernel), err) < 0 ||
	    identify_file(resources->initramfs, "initramfs", initramfs, sizeof(initramfs), err) < 0)
		return -1;
	snprintf(key->identity, sizeof(key->identity), "%s %s cmdline %016llx", kernel, initramfs,
		 (unsigned long long)hash_text(start, KERNEL_CMDLINE));
	snprintf(all, sizeof(all), "%s %s %llu %u", HULL_VERSION, key->identity, (unsigned long long)size->memory,
		 size->vcpus);
	snprintf(key->name, sizeof(key->name), "%016llx", (unsigned long long)hash_text(start, all));
	return 0;
}

static int open_file(int folder, const char *name, struct stat *status, struct error *err)
{
	cleanup_close int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, status) < 0)
		return error_set_errno(err, "open the template's %s", name);
	return take_fd(&fd);
}

static int open_files(const char *name, unsigned max_age, struct template *template, struct error *err)
{
	cleanup_close int all = open_all(false, err), folder = -1;
	struct stat status;

	if (all < 0)
		return -1;
	folder = open_folder(all, name, err);
	if (folder < 0)
		return -1;
	template->state = open_file(folder, STATE_FILE, &status, err);
	if (template->state < 0)
		return -1;
	if (max_age > 0 && time(NULL) - status.st_mtime > (time_t)max_age)
		return error_set(err, ENOENT, "template %s is older than %u s", name, max_age);
	template->memory = open_file(folder, MEMORY_FILE, &status, err);
	return template->memory < 0 ? -1 : 0;
}

int template_open(const char *name, unsigned max_age, struct template *template, struct error *err)
{
	*template = TEMPLATE_NONE;
	if (open_files(name, max_age, template, err) == 0)
		return 0;
	template_release(template);
	return -1;
}

/* --- all of them ------------------------------------------------------------------------------------------------- */

static int read_about(int folder, struct template_entry *entry, struct error *err)
{
	cleanup_free char *text = NULL;
	uint64_t vcpus = 0;
	json_t *about;
	size_t size;
	int result;

	if (read_file_at(folder, ABOUT_FILE, ABOUT_MAX, &text, &size, err) < 0)
		return -1;
	about = json_loadb(text, size, 0, NULL);
	result = spec_get_u64(json_object_get(about, "memory"), &entry->size.memory) < 0 ||
			 spec_get_u64(json_object_get(about, "vcpus"), &vcpus) < 0
		     ? error_set(err, EINVAL, "`" ABOUT_FILE "` is damaged")
		     : 0;
	entry->size.vcpus = (unsigned)vcpus;
	json_decref(about);
	return result;
}

static int write_about(int folder, const struct vm_size *size, struct error *err)
{
	char text[128];
	int length = snprintf(text, sizeof(text), "{\"hull\":\"%s\",\"memory\":%llu,\"vcpus\":%u}\n", HULL_VERSION,
			      (unsigned long long)size->memory, size->vcpus);

	return write_file_atomically_at(folder, ABOUT_FILE, text, (size_t)length, 0400, err);
}

static int read_entry(int all, const char *name, struct template_entry *entry, struct error *err)
{
	cleanup_close int folder = open_folder(all, name, err);
	struct stat state, memory;

	if (folder < 0)
		return -1;
	*entry = (struct template_entry){0};
	memcpy(entry->name, name, TEMPLATE_NAME_SIZE);
	if (fstatat(folder, STATE_FILE, &state, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fstatat(folder, MEMORY_FILE, &memory, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set_errno(err, "files of template %s", name);
	entry->made = state.st_mtime;
	entry->bytes = ((uint64_t)state.st_blocks + (uint64_t)memory.st_blocks) * 512; /* the file has holes */
	return read_about(folder, entry, err) < 0 ? error_prefix(err, "template %s", name) : 0;
}

static int by_age(const void *left, const void *right)
{
	const struct template_entry *a = left, *b = right;

	return a->made != b->made ? (a->made < b->made ? -1 : 1) : strcmp(a->name, b->name);
}

static int add_entry(int all, const char *name, struct template_entry **entries, size_t *n, struct error *err)
{
	struct template_entry *larger = realloc(*entries, (*n + 1) * sizeof(*larger));

	if (!larger)
		return error_set_errno(err, "list templates");
	*entries = larger;
	/* One that is damaged, or was removed just now, is not worth failing for. */
	if (read_entry(all, name, &larger[*n], err) == 0)
		(*n)++;
	else if (err->code != ENOENT)
		report_warning("%s", err->message);
	return 0;
}

static int list_in(int all, struct template_entry **entries, size_t *n, struct error *err)
{
	cleanup_close int copy = openat(all, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	int result = 0;
	DIR *stream = copy < 0 ? NULL : fdopendir(copy);

	if (!stream)
		return error_set_errno(err, "read the folder of templates");
	take_fd(&copy);
	while (result == 0 && (entry = readdir(stream)))
		if (is_name(entry->d_name))
			result = add_entry(all, entry->d_name, entries, n, err);
	closedir(stream);
	if (result == 0 && *n > 0)
		qsort(*entries, *n, sizeof(**entries), by_age);
	return result;
}

int template_list(struct template_entry **entries, size_t *n, struct error *err)
{
	cleanup_close int all = open_all(false, err);

	*entries = NULL;
	*n = 0;
	if (all < 0)
		return err->code == ENOENT ? 0 : -1;
	return list_in(all, entries, n, err);
}

int template_remove(const char *name, struct error *err)
{
	cleanup_close int all = open_all(false, err);
	struct stat status;

	if (!is_name(name))
		return error_set(err, EINVAL, "`%s` is not the name of a template", name);
	if (all < 0 || fstatat(all, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, ENOENT, "template %s does not exist", name);
	return remove_folder(all, name, err);
}

/* --- making one -------------------------------------------------------------------------------------------------- */

/* A file server that serves nothing stands behind the device that machines with a container have. */
static int start(struct bare_machine *bare, int folder, struct machine_plan *plan, struct error *err)
{
	static const struct exports nothing;

	plan->exports = &nothing;
	plan->fsd_control = -1;
	bare->control = socket_listen_in(folder, CONTROL_SOCKET, err);
	return bare->control < 0 ? -1 : bare_machine_start(bare, plan, WATCH_START_TIMEOUT, err);
}

/* Until its agent answers; returns a connection to the VMM. */
static int wait_for_agent(struct bare_machine *bare, int folder, struct error *err)
{
	cleanup_close int control = vmm_control_connect(folder, CONTROL_SOCKET, err), agent = -1;

	if (control < 0)
		return -1;
	agent = agent_connect(control, &bare->watch, err);
	bare->watch.idle_process = 0;
	return agent < 0 ? -1 : take_fd(&control);
}

static int make_file(int folder, const char *name, struct error *err)
{
	int fd = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? error_set_errno(err, "make the template's %s", name) : fd;
}

/* Puts large pages under what the file holds without a gap: the guest's text and what else lies close together. A clone
 * that only reads there has all of a large page at its first touch. Without a kernel that can (6.1), it does without.
 */
static void use_large_pages(int memory)
{
	struct stat status;
	uint8_t *all;

	if (fstat(memory, &status) < 0 || status.st_size == 0)
		return;
	/* At an address in step with the file. */
	all = mmap(NULL, (size_t)status.st_size + LARGE_PAGE_SIZE, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all == MAP_FAILED)
		return;
	all += -(uintptr_t)all & (LARGE_PAGE_SIZE - 1);
	if (mmap(all, (size_t)status.st_size, PROT_READ, MAP_SHARED | MAP_FIXED, memory, 0) == MAP_FAILED)
		return;
	for (off_t at = 0; at + (off_t)LARGE_PAGE_SIZE <= status.st_size; at += LARGE_PAGE_SIZE)
		if (lseek(memory, at, SEEK_HOLE) >= at + (off_t)LARGE_PAGE_SIZE)
			madvise(all + at, LARGE_PAGE_SIZE, MADV_COLLAPSE);
	munmap(all, (size_t)status.st_size);
}

static int freeze_into(int folder, struct bare_machine *bare, struct error *err)
{
	cleanup_close int control = wait_for_agent(bare, folder, err);
	cleanup_close int state = -1, memory = -1;

	if (control < 0)
		return -1;
	state = make_file(folder, STATE_FILE, err);
	if (state < 0)
		return -1;
	memory = make_file(folder, MEMORY_FILE, err);
	if (memory < 0 || vmm_control_save(control, &bare->watch, state, memory, err) < 0)
		return -1;
	/* What clones map must not change any more: the VMM, which could still write, has ended. */
	child_wait(&bare->machine.vmm);
	use_large_pages(memory);
	if (fchmod(state, 0400) < 0 || fchmod(memory, 0400) < 0)
		return error_set_errno(err, "seal the template");
	return 0;
}

static int fill_folder(int folder, struct machine_plan *plan, struct error *err)
{
	cleanup_bare_machine struct bare_machine bare = BARE_MACHINE_NONE;

	if (start(&bare, folder, plan, err) < 0 || freeze_into(folder, &bare, err) < 0) {
		bare_machine_explain(&bare, err);
		return -1;
	}
	unlinkat(folder, CONTROL_SOCKET, 0);
	return write_about(folder, &plan->size, err);
}

static int publish(int all, const char *name, struct error *err)
{
	if (renameat2(all, NEW_FOLDER, all, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EEXIST || renameat2(all, NEW_FOLDER, all, name, RENAME_EXCHANGE) < 0)
		return error_set_errno(err, "put template %s in its place", name);
	return remove_folder(all, NEW_FOLDER, err);
}

static void keep_few(int all)
{
	cleanup_free struct template_entry *entries = NULL;
	struct error err;
	size_t n = 0;

	if (list_in(all, &entries, &n, &err) < 0)
		return;
	for (size_t i = 0; n - i > TEMPLATES_MAX; i++)
		remove_folder(all, entries[i].name, &err);
}

static int make_new(int all, struct machine_plan *plan, const struct template_key *key, struct error *err)
{
	cleanup_close int folder = -1;

	if (mkdirat(all, NEW_FOLDER, 0700) < 0)
		return error_set_errno(err, "make a folder for template %s", key->name);
	folder = open_folder(all, NEW_FOLDER, err);
	if (folder < 0)
		return -1;
	return fill_folder(folder, plan, err) < 0 ? -1 : publish(all, key->name, err);
}

int template_make(const struct resources *resources, const struct vm_size *size, const struct template_key *key,
		  struct error *err)
{
	struct machine_plan plan = {.resources = resources, .size = *size, .identity = key->identity, .savable = true};
	cleanup_close int all = open_all(true, err);
	struct error second;

	if (all < 0 || remove_folder(all, NEW_FOLDER, err) < 0)
		return -1;
	if (make_new(all, &plan, key, err) < 0) {
		remove_folder(all, NEW_FOLDER, &second);
		return error_prefix(err, "template %s", key->name);
	}
	keep_few(all);
	return 0;
}

int template_verify(const struct resources *resources, const struct vm_size *size, const struct template_key *key,
		    struct error *err)
{
	cleanup_template struct template template = TEMPLATE_NONE;
	cleanup_bare_machine struct bare_machine bare = BARE_MACHINE_NONE;
	struct machine_plan plan = {
	    .resources = resources, .size = *size, .identity = key->identity, .template = &template};
	cleanup_close int all = open_all(false, err), folder = -1, control = -1;
	struct error second;

	if (all < 0 || template_open(key->name, 0, &template, err) < 0 || remove_folder(all, NEW_FOLDER, err) < 0)
		return -1;
	if (mkdirat(all, NEW_FOLDER, 0700) < 0)
		return error_set_errno(err, "make a folder for the trial");
	folder = open_folder(all, NEW_FOLDER, err);
	if (folder >= 0 && start(&bare, folder, &plan, err) == 0)
		control = wait_for_agent(&bare, folder, err);
	if (control < 0)
		bare_machine_explain(&bare, err);
	remove_folder(all, NEW_FOLDER, &second);
	return control < 0 ? -1 : 0;
}

/* --- in the background ------------------------------------------------------------------------------------------- */

/* The descriptors that the maker needs become 3 and so on; nothing else of this process lives on in it, the caller's
 * streams and the container's lock least of all. */
static int keep_only(int *fds[], int n)
{
	int null;

	for (int i = 0; i < n; i++) {
		*fds[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, 3 + n);
		if (*fds[i] < 0)
			return -1;
	}
	for (int i = 0; i < n; i++) {
		if (dup3(*fds[i], 3 + i, O_CLOEXEC) < 0)
			return -1;
		*fds[i] = 3 + i;
	}
	close_range((unsigned)(3 + n), ~0u, 0);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	return null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 ? -1 : 0;
}

static void make_and_end(struct resources resources, const struct vm_size *size, int lock) __attribute__((noreturn));

static void make_and_end(struct resources resources, const struct vm_size *size, int lock)
{
	int *kept[] = {&resources.kvm, &resources.kernel, &resources.initramfs, &lock};
	struct template_key key;
	struct error err;

	prctl(PR_SET_NAME, "hull-template");
	setsid();
	setpriority(PRIO_PROCESS, 0, NICENESS);
	if (keep_only(kept, sizeof(kept) / sizeof(kept[0])) < 0)
		_exit(1);
	resources.console = -1;
	if (template_identify(&resources, size, &key, &err) < 0 || template_make(&resources, size, &key, &err) < 0)
		_exit(1);
	_exit(0);
}

void template_make_later(const struct resources *resources, const struct vm_size *size)
{
	cleanup_close int lock = -1;
	struct error err;
	pid_t pid;

	lock = template_lock(false, &err);
	if (lock < 0) {
		report_debug("no template is made: %s", err.message);
		return;
	}
	pid = fork();
	if (pid == 0)
		make_and_end(*resources, size, lock);
	if (pid < 0)
		report_debug("no template is made: fork: %s", strerror(errno));
	else
		report_debug("process %d makes a template", (int)pid);
}

/*
 * hull-fsd: serves exported trees to the guest of one sandbox.
 *
 *   hull-fsd --socket FD --log FD --export NAME=FD[,ro][,recursive][,cache=SECONDS] ...
 *
 * Each FD is the number of an inherited descriptor; an export's is an O_PATH descriptor of a directory or of anything
 * else. It confines itself (vmm/fsd/jail.h), serves requests from the socket (common/fs_protocol.h) and ends with
 * status 0 when the socket closes. When it cannot start it writes one line to the log and ends with status 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fs_protocol.h"
#include "common/io.h"
#include "common/log.h"
#include "vmm/fsd/jail.h"
#include "vmm/fsd/server.h"

#define EXPORT_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define CACHE_SECONDS_DEFAULT 1
#define CACHE_SECONDS_MAX 86400
#define SOCKET_BUFFER (2 * FS_MESSAGE_MAX)

struct export_option {
	char name[EXPORT_NAME_MAX + 1];
	int fd;
	bool read_only;
	bool recursive;
	uint32_t cache_seconds;
};

struct options {
	int socket;
	int log;
	struct export_option exports[EXPORTS_MAX];
	unsigned export_count;
};

static struct options options = {.socket = -1, .log = STDERR_FILENO};
static struct server server;

/* Larger than any request, and aligned as server_handle wants them. */
static _Alignas(16) uint8_t request_buffer[FS_MESSAGE_MAX];
static _Alignas(16) uint8_t answer_buffer[FS_MESSAGE_MAX];

static int parse_fd(const char *text, int *fd, struct error *err)
{
	uint64_t number;

	if (parse_u64(text, 0, INT32_MAX, &number) < 0 || fcntl((int)number, F_GETFD) < 0)
		return error_set(err, EBADF, "`%s` is not an open descriptor", text);
	*fd = (int)number;
	return set_cloexec(*fd, true) < 0 ? error_set_errno(err, "descriptor %d", *fd) : 0;
}

static int parse_export_flag(const char *flag, struct export_option *export, struct error *err)
{
	uint64_t seconds;

	if (strcmp(flag, "ro") == 0) {
		export->read_only = true;
	} else if (strcmp(flag, "recursive") == 0) {
		export->recursive = true;
	} else if (strncmp(flag, "cache=", 6) == 0) {
		if (parse_u64(flag + 6, 0, CACHE_SECONDS_MAX, &seconds) < 0)
			return error_set(err, EINVAL, "`%s`: 0 to %d seconds", flag, CACHE_SECONDS_MAX);
		export->cache_seconds = (uint32_t)seconds;
	} else {
		return error_set(err, EINVAL, "`%s` is not an option of an export", flag);
	}
	return 0;
}

static int check_name(const char *name, struct error *err)
{
	size_t length = strlen(name);

	if (length == 0 || length > EXPORT_NAME_MAX || strspn(name, EXPORT_CHARACTERS) != length ||
	    strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return error_set(err, EINVAL, "`%s` is not a name for an export", name);
	for (unsigned i = 0; i < options.export_count; i++)
		if (strcmp(options.exports[i].name, name) == 0)
			return error_set(err, EEXIST, "two exports are named `%s`", name);
	return 0;
}

/* Takes the option's text apart in place. */
static int parse_export(char *text, struct error *err)
{
	struct export_option *export = &options.exports[options.export_count];
	char *value = strchr(text, '='), *rest, *flag;

	if (options.export_count == EXPORTS_MAX)
		return error_set(err, E2BIG, "more than %d exports", EXPORTS_MAX);
	if (!value)
		return error_set(err, EINVAL, "`%s`: NAME=FD expected", text);
	*value++ = '\0';
	if (check_name(text, err) < 0)
		return -1;
	*export = (struct export_option){.cache_seconds = CACHE_SECONDS_DEFAULT};
	memcpy(export->name, text, strlen(text) + 1);
	flag = strtok_r(value, ",", &rest);
	if (!flag)
		return error_set(err, EINVAL, "export `%s`: descriptor expected", text);
	if (parse_fd(flag, &export->fd, err) < 0)
		return error_prefix(err, "export `%s`", text);
	while ((flag = strtok_r(NULL, ",", &rest)))
		if (parse_export_flag(flag, export, err) < 0)
			return error_prefix(err, "export `%s`", text);
	options.export_count++;
	return 0;
}

static int parse_options(int argc, char **argv, struct error *err)
{
	static const struct option known[] = {{"socket", required_argument, NULL, 's'},
					      {"log", required_argument, NULL, 'l'},
					      {"export", required_argument, NULL, 'e'},
					      {NULL, 0, NULL, 0}};
	int option, result = 0;

	opterr = 0;
	while (result == 0 && (option = getopt_long(argc, argv, "", known, NULL)) >= 0) {
		if (option == 's')
			result = parse_fd(optarg, &options.socket, err);
		else if (option == 'l')
			result = parse_fd(optarg, &options.log, err);
		else if (option == 'e')
			result = parse_export(optarg, err);
		else
			result = error_set(err, EINVAL, "unknown option `%s`", argv[optind - 1]);
	}
	if (result == 0 && optind < argc)
		result = error_set(err, EINVAL, "`%s` is one argument too many", argv[optind]);
	if (result == 0 && options.socket < 0)
		result = error_set(err, EINVAL, "--socket is missing");
	return result;
}

static bool is_needed(int fd)
{
	if (fd <= STDERR_FILENO || fd == options.socket || fd == options.log)
		return true;
	for (unsigned i = 0; i < options.export_count; i++)
		if (options.exports[i].fd == fd)
			return true;
	return false;
}

/* Whatever else the caller has left open must not be within reach of a guest that has taken this process over. */
static void close_strays(void)
{
	int last = options.socket > options.log ? options.socket : options.log;

	for (unsigned i = 0; i < options.export_count; i++)
		if (options.exports[i].fd > last)
			last = options.exports[i].fd;
	for (int fd = 0; fd < last; fd++)
		if (!is_needed(fd))
			close(fd);
	close_range((unsigned)last + 1, ~0u, 0);
}

/* A descriptor for each inode that the guest knows and each file that it has open: as many as the host allows. Returns
 * how many that are. */
static uint32_t raise_descriptor_limit(void)
{
	struct rlimit limit = {INODES_MAX, INODES_MAX};

	if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
		return INODES_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 256;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_max < INODES_MAX ? (uint32_t)limit.rlim_max : INODES_MAX;
}

static int export_trees(struct error *err)
{
	for (unsigned i = 0; i < options.export_count; i++) {
		struct export_option *export = &options.exports[i];

		if (jail_clone_tree(&export->fd, export->read_only, export->recursive, err) < 0)
			return error_prefix(err, "export `%s`", export->name);
		if (server_export(&server, export->name, export->cache_seconds, export->fd, err) < 0)
			return -1;
	}
	return 0;
}

static void revoke_writes(struct server *of, uint32_t handle)
{
	struct fs_message message = {.flags = FS_WRITES_TO_SERVER, .handle = handle};

	(void)of;
	send_with_fds(options.socket, &message, sizeof(message), NULL, 0, 0);
}

static int set_up(struct error *err)
{
	uint32_t descriptors;
	int size = SOCKET_BUFFER;

	close_strays();
	/* A peer that has gone, or a limit on file sizes, is an error of one system call. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	descriptors = raise_descriptor_limit();
	/* Else the kernel's default, which holds one message of any size. */
	setsockopt(options.socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (jail_enter_self(err) < 0 || server_init(&server, descriptors, err) < 0 || export_trees(err) < 0)
		return -1;
	server.revoke_writes = revoke_writes;
	if (jail_enter(err) < 0 || jail_filter(err) < 0)
		return error_prefix(err, "jail");
	return 0;
}

/* Returns false when the socket has closed. */
static bool answer(const void *data, size_t size, int descriptor)
{
	struct fs_message *message = (void *)answer_buffer;
	ssize_t sent = send_with_fds(options.socket, data, size, &descriptor, descriptor >= 0 ? 1 : 0, 0);

	/* Too many descriptors are on their way: the handle is then served here. */
	if (sent < 0 && descriptor >= 0 && errno == ETOOMANYREFS) {
		message->flags = 0;
		sent = send_with_fds(options.socket, data, size, NULL, 0, 0);
	}
	return sent >= 0;
}

/* One request after the other until the VMM has gone. Returns the exit status. */
static int serve(void)
{
	const struct fs_message *message = (const void *)request_buffer;
	struct fs_message *reply = (void *)answer_buffer;

	for (;;) {
		ssize_t received = recv(options.socket, request_buffer, sizeof(request_buffer), 0);
		int descriptor;
		size_t size;

		if (received < 0 && errno == EINTR)
			continue;
		if (received <= 0)
			return 0;
		if ((size_t)received < sizeof(*message)) {
			log_line("a message of %zd bytes is too short", received);
			return 1;
		}
		size = server_handle(&server, message + 1, (size_t)received - sizeof(*message), answer_buffer,
				     &descriptor);
		if (size == 0)
			continue;
		reply->tag = message->tag;
		if (!answer(answer_buffer, size, descriptor))
			return 0;
	}
}

int main(int argc, char **argv)
{
	struct error err;

	log_to(options.log, "hull-fsd");
	if (parse_options(argc, argv, &err) < 0) {
		log_line("%s", err.message);
		return 1;
	}
	log_to(options.log, "hull-fsd");
	if (set_up(&err) < 0) {
		log_line("%s", err.message);
		return 1;
	}
	return serve();
}

/*
 * hull-fsd: serves exported trees to the guest of one sandbox.
 *
 *   hull-fsd --socket FD --log FD [--control FD] --export NAME=FD[,cache=SECONDS] ...
 *
 * Each FD is the number of an inherited descriptor; an export's is an O_PATH descriptor of a directory or of anything
 * else, on a mount of its own (runtime/export_tree.h). It confines itself (vmm/fsd/jail.h), serves requests from the
 * socket (common/fs_protocol.h), adds and removes exports as the listening control socket is told
 * (common/fsd_control.h), and ends with status 0 when the socket closes. When it cannot start it writes one line to the
 * log and ends with status 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fs_protocol.h"
#include "common/io.h"
#include "common/log.h"
#include "vmm/fsd/control.h"
#include "vmm/fsd/jail.h"
#include "vmm/fsd/server.h"

#define CACHE_SECONDS_DEFAULT 1
#define SOCKET_BUFFER (2 * FS_MESSAGE_MAX)

struct export_option {
	char name[EXPORT_NAME_MAX + 1];
	int fd;
	uint32_t cache_seconds;
};

struct options {
	int socket;
	int log;
	int control;
	struct export_option exports[EXPORTS_MAX];
	unsigned export_count;
};

static struct options options = {.socket = -1, .log = STDERR_FILENO, .control = -1};
static struct server server;
static struct control control;

/*
 * The control socket has a thread of its own, so that a request of the guest is waited for in recv itself: asking poll
 * about two sockets before each cost as much as carrying the request out. The lock is held around all work on the
 * server, up to and including the answer that is sent: what a control operation tells the VMM about a handle must not
 * overtake the answer that gave it the handle.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t started;
static struct error filter_error;
static bool filter_failed;

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

	if (strncmp(flag, "cache=", 6) != 0)
		return error_set(err, EINVAL, "`%s` is not an option of an export", flag);
	if (parse_u64(flag + 6, 0, CACHE_SECONDS_MAX, &seconds) < 0)
		return error_set(err, EINVAL, "`%s`: 0 to %d seconds", flag, CACHE_SECONDS_MAX);
	export->cache_seconds = (uint32_t)seconds;
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
	if (!export_name_valid(text))
		return error_set(err, EINVAL, "`%s` is not a name for an export", text);
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
					      {"control", required_argument, NULL, 'c'},
					      {"export", required_argument, NULL, 'e'},
					      {NULL, 0, NULL, 0}};
	int option, result = 0;

	opterr = 0;
	while (result == 0 && (option = getopt_long(argc, argv, "", known, NULL)) >= 0) {
		if (option == 's')
			result = parse_fd(optarg, &options.socket, err);
		else if (option == 'l')
			result = parse_fd(optarg, &options.log, err);
		else if (option == 'c')
			result = parse_fd(optarg, &options.control, err);
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
	if (fd <= STDERR_FILENO || fd == options.socket || fd == options.log || fd == options.control)
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

	if (options.control > last)
		last = options.control;
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

		if (server_export(&server, export->name, export->cache_seconds, export->fd, err) < 0)
			return -1;
	}
	return 0;
}

static void tell_vmm(struct server *of, uint32_t handle, uint32_t flag)
{
	struct fs_message message = {.flags = flag, .handle = handle};

	(void)of;
	send_with_fds(options.socket, &message, sizeof(message), NULL, 0, 0);
}

static void *serve_control(void *argument)
{
	struct pollfd polled[CONTROL_POLLED_MAX];

	(void)argument;
	filter_failed = jail_filter(&filter_error) < 0;
	pthread_barrier_wait(&started);
	for (;;) {
		unsigned n = control_poll(&control, polled);

		if (poll(polled, n, -1) < 0)
			continue;
		pthread_mutex_lock(&lock);
		control_serve(&control, polled, n);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

#define CONTROL_STACK_SIZE (128u << 10)

/* Returns when the thread has its filter. */
static int start_control(struct error *err)
{
	pthread_attr_t attributes;
	pthread_t thread;

	if (options.control < 0)
		return 0;
	pthread_barrier_init(&started, NULL, 2);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, CONTROL_STACK_SIZE);
	errno = pthread_create(&thread, &attributes, serve_control, NULL);
	pthread_attr_destroy(&attributes);
	if (errno != 0)
		return error_set_errno(err, "start the thread of the control socket");
	pthread_barrier_wait(&started);
	if (!filter_failed)
		return 0;
	*err = filter_error;
	return -1;
}

static int set_up(struct error *err)
{
	uint32_t descriptors;
	int size = SOCKET_BUFFER;

	close_strays();
	/* Its tables are large and sparsely used: a large page under each first use would cost 2 MiB of memory and of
	 * clearing. */
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	/* A peer that has gone, or a limit on file sizes, is an error of one system call. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	descriptors = raise_descriptor_limit();
	/* Else the kernel's default, which holds one message of any size. */
	setsockopt(options.socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (jail_enter_self(err) < 0 || server_init(&server, descriptors, err) < 0 || export_trees(err) < 0)
		return -1;
	server.revoke = tell_vmm;
	control_init(&control, &server, options.control);
	if (jail_enter(err) < 0)
		return error_prefix(err, "jail");
	if (start_control(err) < 0)
		return -1;
	return jail_filter(err) < 0 ? error_prefix(err, "jail") : 0;
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

/* Returns false when the VMM has gone. */
static bool carry_out(size_t received)
{
	const struct fs_message *message = (const void *)request_buffer;
	struct fs_message *reply = (void *)answer_buffer;
	int descriptor;
	size_t size = server_handle(&server, message + 1, received - sizeof(*message), answer_buffer, &descriptor);

	if (size == 0)
		return true;
	reply->tag = message->tag;
	return answer(answer_buffer, size, descriptor);
}

/* Waits for one request. Returns false when the VMM has gone. */
static bool serve_request(int *status)
{
	ssize_t received = recv(options.socket, request_buffer, sizeof(request_buffer), 0);
	bool going_on;

	if (received < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (received <= 0)
		return false;
	if ((size_t)received < sizeof(struct fs_message)) {
		log_line("a message of %zd bytes is too short", received);
		*status = 1;
		return false;
	}
	pthread_mutex_lock(&lock);
	going_on = carry_out((size_t)received);
	pthread_mutex_unlock(&lock);
	return going_on;
}

/* One request after the other until the VMM has gone. Returns the exit status. */
static int serve(void)
{
	int status = 0;

	while (serve_request(&status))
		;
	return status;
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

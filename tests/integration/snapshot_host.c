/*
 * Saves and restores machines with a real guest, without the runtime in between.
 *
 *   snapshot_host VMM FSD KERNEL INITRAMFS ROOTFS DIRECTORY
 *
 * Reads lines from its standard input and answers each with one line. A machine has a NAME of one word; its files are
 * DIRECTORY/NAME.{in,out,err,result,log}, and the export "rootfs" of its file server is ROOTFS. Its streams are port
 * 1040 (from .in, a fifo), 1041 (to .out) and 1042 (to .err).
 *
 *   boot NAME VCPUS MEMORY        starts a machine: "ok"
 *   restore NAME VCPUS MEMORY FROM [identity]   starts one from DIRECTORY/FROM.state and FROM.memory: "ok"
 *   save NAME TO [end]            saves it: "ok", or "error TEXT"
 *   order NAME JSON               an order to the agent, over a connection that is closed afterwards: the answer
 *   time NAME JSON                the same, with the host's time put in: every @NOW@ becomes nanoseconds
 *   net NAME TAP MAC MTU          makes a tap and puts a network card on it into the machine: "slot N", or "error TEXT"
 *   unplug NAME SLOT              takes a network card out of it: "ok", or "error TEXT"
 *   wait NAME                     waits for the VMM: "status N"
 *   kill NAME                     ends the VMM: "ok"
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "common/vmm_control.h"
#include "runtime/kernel_cmdline.h"

#define MACHINES_MAX 128
#define ARGUMENTS_MAX 64
#define IDENTITY "the kernel of the tests"

static struct machine {
	char name[32];
	pid_t vmm, file_server;
	int control;
} machines[MACHINES_MAX];

static const char *vmm_path, *fsd_path, *kernel_path, *initramfs_path, *rootfs_path, *directory;

/* --- programs with their descriptors ------------------------------------------------------------------------------ */

struct program {
	char *arguments[ARGUMENTS_MAX];
	int n_arguments;
	int fds[ARGUMENTS_MAX]; /* handed over, then closed here */
	int n_fds;
};

static void add(struct program *program, const char *text)
{
	program->arguments[program->n_arguments++] = strdup(text);
}

static int hand_over(struct program *program, int fd, const char *what)
{
	if (fd < 0)
		err(125, "%s", what);
	program->fds[program->n_fds++] = fd;
	return fd;
}

/* As the option's value: before, the number, after. */
static void add_fd(struct program *program, const char *option, const char *before, int fd, const char *after)
{
	char text[64];

	snprintf(text, sizeof(text), "%s%d%s", before, hand_over(program, fd, option), after);
	add(program, option);
	add(program, text);
}

static pid_t start(struct program *program)
{
	pid_t pid = fork();

	if (pid == 0) {
		for (int fd = 0; fd < 2; fd++)
			dup2(open("/dev/null", O_RDWR), fd);
		for (int i = 0; i < program->n_fds; i++)
			fcntl(program->fds[i], F_SETFD, 0);
		execv(program->arguments[0], program->arguments);
		_exit(125);
	}
	for (int i = 0; i < program->n_arguments; i++)
		free(program->arguments[i]);
	for (int i = 0; i < program->n_fds; i++)
		close(program->fds[i]);
	return pid;
}

static int open_file(const char *name, const char *suffix, int flags)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.%s", directory, name, suffix);
	return open(path, flags | O_CLOEXEC, 0600);
}

/* --- a machine ---------------------------------------------------------------------------------------------------- */

/* Open in both directions: its reader does not see an end between two writers. */
static int open_fifo(const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s.in", directory, name);
	if (mkfifo(path, 0600) < 0 && errno != EEXIST)
		err(125, "%s", path);
	return open(path, O_RDWR | O_CLOEXEC);
}

static pid_t start_file_server(int socket, const char *name)
{
	struct program program = {0};

	add(&program, fsd_path);
	add_fd(&program, "--socket", "", socket, "");
	add_fd(&program, "--log", "", open_file(name, "log", O_WRONLY | O_CREAT | O_APPEND), "");
	add_fd(&program, "--export", "rootfs=", open(rootfs_path, O_PATH | O_DIRECTORY | O_CLOEXEC), "");
	return start(&program);
}

/* The machine's control socket, as the runtime makes it, and a connection to it. */
static int make_control(struct machine *machine)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/control", directory);
	unlink(address.sun_path);
	machine->control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 4) < 0 ||
	    connect(machine->control, (struct sockaddr *)&address, sizeof(address)) < 0)
		err(125, "control socket");
	return listener;
}

static void add_source(struct program *program, const char *from)
{
	if (from) {
		add_fd(program, "--restore", "", open_file(from, "state", O_RDONLY), "");
		add_fd(program, "--memory-file", "", open_file(from, "memory", O_RDONLY), "");
		return;
	}
	add_fd(program, "--kernel", "", open(kernel_path, O_RDONLY | O_CLOEXEC), "");
	add_fd(program, "--initramfs", "", open(initramfs_path, O_RDONLY | O_CLOEXEC), "");
	add(program, "--cmdline");
	add(program, KERNEL_CMDLINE);
}

static void start_machine(const char *name, const char *vcpus, const char *memory, const char *from,
			  const char *identity)
{
	const int create = O_WRONLY | O_CREAT | O_TRUNC;
	struct machine *machine = machines;
	struct program program = {0};
	int sockets[2];

	while (machine->name[0])
		machine++;
	snprintf(machine->name, sizeof(machine->name), "%s", name);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		err(125, "socketpair");
	machine->file_server = start_file_server(sockets[1], name);
	add(&program, vmm_path);
	add_fd(&program, "--kvm", "", open("/dev/kvm", O_RDWR | O_CLOEXEC), "");
	add_source(&program, from);
	add_fd(&program, "--control", "", make_control(machine), "");
	add_fd(&program, "--result", "", open_file(name, "result", create), "");
	add_fd(&program, "--log", "", open_file(name, "log", O_WRONLY | O_CREAT | O_APPEND), "");
	add_fd(&program, "--fs", "", sockets[0], "");
	add_fd(&program, "--stream", "1040=", open_fifo(name), ",in");
	add_fd(&program, "--stream", "1041=", open_file(name, "out", create), ",out");
	add_fd(&program, "--stream", "1042=", open_file(name, "err", create), ",out");
	add(&program, "--memory");
	add(&program, memory);
	add(&program, "--vcpus");
	add(&program, vcpus);
	add(&program, "--uid");
	add(&program, "65534");
	add(&program, "--gid");
	add(&program, "65534");
	add(&program, "--identity");
	add(&program, identity ? identity : IDENTITY);
	add(&program, "--savable");
	machine->vmm = start(&program);
}

static struct machine *find(const char *name)
{
	for (struct machine *machine = machines; machine < machines + MACHINES_MAX; machine++)
		if (name && strcmp(machine->name, name) == 0)
			return machine;
	errx(125, "no machine `%s`", name ? name : "");
}

static int wait_for(struct machine *machine)
{
	int status = 0;

	waitpid(machine->vmm, &status, 0);
	close(machine->control);
	waitpid(machine->file_server, NULL, 0);
	memset(machine, 0, sizeof(*machine));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static struct vmm_reply ask_with(int control, const void *request, size_t size, const int *fds, size_t n_fds)
{
	struct vmm_reply reply = {.error = ECONNRESET};
	union {
		char space[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr alignment;
	} ancillary = {{0}};
	struct iovec iov = {(void *)request, size};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &ancillary,
				 .msg_controllen = CMSG_SPACE(n_fds * sizeof(int))};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	if (n_fds == 0)
		message.msg_controllen = 0;
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
	memcpy(CMSG_DATA(header), fds, n_fds * sizeof(int));
	if (sendmsg(control, &message, MSG_NOSIGNAL) < 0 || recv(control, &reply, sizeof(reply), 0) <= 0)
		reply = (struct vmm_reply){.error = ECONNRESET};
	return reply;
}

/* Returns the reply's error. */
static int ask(int control, const struct vmm_request *request, const int *fds, size_t n_fds)
{
	return (int)ask_with(control, request, sizeof(*request), fds, n_fds).error;
}

static void print_error(int error)
{
	if (error)
		printf("error %s\n", strerror(error));
	else
		puts("ok");
}

static int make_tap(const char *name)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), header = VMM_NET_HEADER;

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 ||
	    ioctl(fd, TUNSETOFFLOAD, VMM_NET_OFFLOADS) < 0)
		err(125, "tap %s", name);
	return fd;
}

static void add_net(const char *name, const char *tap, const char *mac, const char *mtu)
{
	struct {
		struct vmm_request request;
		struct vmm_net net;
	} packet = {.request = {.version = VMM_CONTROL_VERSION, .operation = VMM_NET_ADD},
		    .net.mtu = (uint16_t)atoi(mtu)};
	int fd = make_tap(tap);
	struct vmm_reply reply;

	if (sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &packet.net.mac[0], &packet.net.mac[1], &packet.net.mac[2],
		   &packet.net.mac[3], &packet.net.mac[4], &packet.net.mac[5]) != 6)
		errx(125, "MAC address %s", mac);
	reply = ask_with(find(name)->control, &packet, sizeof(packet), &fd, 1);
	close(fd);
	if (reply.error)
		print_error((int)reply.error);
	else
		printf("slot %u\n", reply.value);
}

static void remove_net(const char *name, const char *slot)
{
	struct vmm_request request = {
	    .version = VMM_CONTROL_VERSION, .operation = VMM_NET_REMOVE, .port = (uint32_t)atoi(slot)};

	print_error(ask(find(name)->control, &request, NULL, 0));
}

/* A template as the runtime makes it: nobody can change it any more. */
static void save(const char *name, const char *to, bool end)
{
	struct vmm_request request = {
	    .version = VMM_CONTROL_VERSION, .operation = VMM_SAVE, .flags = end ? VMM_SAVE_AND_END : 0};
	const int create = O_RDWR | O_CREAT | O_TRUNC;
	int fds[2] = {open_file(to, "state", create), open_file(to, "memory", create)};
	int error;

	if (fds[0] < 0 || fds[1] < 0)
		err(125, "%s", to);
	error = ask(find(name)->control, &request, fds, 2);
	fchmod(fds[0], 0400);
	fchmod(fds[1], 0400);
	close(fds[0]);
	close(fds[1]);
	print_error(error);
}

static bool read_all(int fd, void *data, size_t size)
{
	for (char *at = data; size > 0;) {
		ssize_t n = read(fd, at, size);

		if (n <= 0)
			return false;
		at += n;
		size -= (size_t)n;
	}
	return true;
}

static void order(const char *name, const char *json)
{
	struct vmm_request request = {.version = VMM_CONTROL_VERSION, .operation = VMM_CONNECT, .port = AGENT_PORT};
	uint32_t length = (uint32_t)strlen(json);
	int sockets[2], error;
	char *answer;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		err(125, "socketpair");
	error = ask(find(name)->control, &request, &sockets[1], 1);
	close(sockets[1]);
	if (error || write(sockets[0], &length, sizeof(length)) < 0 || write(sockets[0], json, length) < 0 ||
	    !read_all(sockets[0], &length, sizeof(length)) || length > AGENT_MESSAGE_MAX) {
		printf("no answer: %s\n", strerror(error));
	} else {
		answer = calloc(1, length + 1);
		if (answer && read_all(sockets[0], answer, length))
			puts(answer);
		free(answer);
	}
	close(sockets[0]);
}

static void timed_order(const char *name, const char *json)
{
	const char *mark = strstr(json, "@NOW@");
	struct timespec now;
	char *text;

	if (!mark)
		errx(125, "no @NOW@");
	clock_gettime(CLOCK_REALTIME, &now);
	if (asprintf(&text, "%.*s%lld%s", (int)(mark - json), json, (long long)now.tv_sec * 1000000000ll + now.tv_nsec,
		     mark + 5) < 0)
		err(125, "asprintf");
	order(name, text);
	free(text);
}

/* --- lines -------------------------------------------------------------------------------------------------------- */

static void carry_out(char *line)
{
	char *rest = line, *words[6] = {0};
	const char *verb = strsep(&rest, " "), *name = strsep(&rest, " ");

	if (strcmp(verb, "order") == 0) {
		order(name, rest);
		return;
	}
	if (strcmp(verb, "time") == 0) {
		timed_order(name, rest);
		return;
	}
	for (int i = 0; i < 6 && rest; i++)
		words[i] = strsep(&rest, " ");
	if (strcmp(verb, "boot") == 0) {
		start_machine(name, words[0], words[1], NULL, NULL);
		puts("ok");
	} else if (strcmp(verb, "restore") == 0) {
		start_machine(name, words[0], words[1], words[2], words[3]);
		puts("ok");
	} else if (strcmp(verb, "save") == 0) {
		save(name, words[0], words[1]);
	} else if (strcmp(verb, "net") == 0) {
		add_net(name, words[0], words[1], words[2]);
	} else if (strcmp(verb, "unplug") == 0) {
		remove_net(name, words[0]);
	} else if (strcmp(verb, "wait") == 0) {
		printf("status %d\n", wait_for(find(name)));
	} else if (strcmp(verb, "kill") == 0) {
		kill(find(name)->vmm, SIGKILL);
		wait_for(find(name));
		puts("ok");
	} else {
		errx(125, "unknown verb `%s`", verb);
	}
}

int main(int argc, char **argv)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;

	if (argc != 7)
		errx(125, "usage: snapshot_host VMM FSD KERNEL INITRAMFS ROOTFS DIRECTORY");
	vmm_path = argv[1], fsd_path = argv[2], kernel_path = argv[3];
	initramfs_path = argv[4], rootfs_path = argv[5], directory = argv[6];
	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((n = getline(&line, &room, stdin)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = '\0';
		carry_out(line);
	}
	free(line);
	for (struct machine *machine = machines; machine < machines + MACHINES_MAX; machine++)
		if (machine->vmm > 0)
			kill(machine->vmm, SIGKILL);
	return 0;
}

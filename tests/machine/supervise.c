/*
 * supervise: starts QEMU with the emulated KVM host, hands it a job, relays the streams, ends with the job's status.
 *
 *   supervise [-t SECONDS] [-o DIRECTORY] [-c CONSOLE-LOG] [-f] -q N QEMU-ARGUMENT... COMMAND...
 *
 *   -t  end the machine after so many seconds, with status 124
 *   -o  directory of the caller that the machine mounts at the same path (QEMU exports it with the tag "out")
 *   -c  file for the machine's console; without it the last lines are shown when something fails
 *   -f  the same random seed each time, for figures that repeat
 *   -q  how many of the arguments are QEMU's; its sockets are MACHINE_FDS and the following
 *
 * Status: the command's; 124 time-out; 125 the machine failed; 128 + N after signal N.
 *
 * One process, one loop, and QEMU its only child, which the kernel kills when this process dies of whatever cause:
 * nothing has to be cleaned up, and there is nothing that a kill -9 leaves behind. The handlers of signals end the
 * program where it stands: it may be blocked writing to a caller who does not read.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

/* QEMU finds port N at descriptor MACHINE_FDS + N; the console is there as port 0. */
#define MACHINE_FDS 100
#define CONSOLE_KEPT 4000

static pid_t qemu = -1;

/* The end of the console's text, for the failure message. Written by the loop, read by signal handlers. */
static char console_tail[2 * CONSOLE_KEPT];
static volatile size_t console_length;
static int console_log = -1;

static char late_message[64];

struct options {
	unsigned timeout;
	const char *output;
	const char *console;
	bool fixed_seed;
	char **qemu;
	int qemu_count;
	char **command;
	int command_count;
};

/* Frames from the machine on their way to a descriptor of the caller. */
struct inbound {
	int port;
	int target;
	uint32_t frame; /* bytes of the current frame still to come from the port */
	size_t start, end;
	bool ended; /* the end of stream has come */
	char data[64 * 1024];
};

/* Bytes on their way to the machine. */
struct outbound {
	int port;
	size_t start, end, size;
	char *data;
};

static void end_machine(void)
{
	if (qemu <= 0)
		return;
	kill(qemu, SIGKILL);
	while (waitpid(qemu, NULL, 0) < 0 && errno == EINTR)
		;
	qemu = -1;
}

static void say(const char *text, size_t length)
{
	/* Best effort: there is nobody to tell about a failure. */
	if (write(STDERR_FILENO, text, length) < 0)
		return;
}

/* Safe in a signal handler, like everything it calls. */
static void show_console(void)
{
	static const char title[] = "machine: the end of its console:\n";
	size_t length = console_length, start = length > CONSOLE_KEPT ? length - CONSOLE_KEPT : 0;

	if (!length)
		return;
	say(title, sizeof(title) - 1);
	say(console_tail + start, length - start);
	if (console_tail[length - 1] != '\n')
		say("\n", 1);
}

_Noreturn static void on_signal_exit(int signal_number)
{
	end_machine();
	if (signal_number == SIGALRM) {
		say(late_message, strlen(late_message));
		show_console();
		_exit(124);
	}
	_exit(128 + signal_number);
}

static void on_signal(int signal_number)
{
	on_signal_exit(signal_number);
}

_Noreturn static void fail(const char *what)
{
	int error = errno;

	end_machine();
	if (error)
		fprintf(stderr, "machine: %s: %s\n", what, strerror(error));
	else
		fprintf(stderr, "machine: %s\n", what);
	exit(125);
}

static int number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	errno = 0;
	if (*end || end == text || value < 0 || value > 1000000000)
		fail("bad number");
	return (int)value;
}

static void parse(int argc, char **argv, struct options *options)
{
	int option;

	while ((option = getopt(argc, argv, "+t:o:c:fq:")) != -1) {
		switch (option) {
		case 't':
			options->timeout = (unsigned)number(optarg);
			break;
		case 'o':
			options->output = optarg;
			break;
		case 'c':
			options->console = optarg;
			break;
		case 'f':
			options->fixed_seed = true;
			break;
		case 'q':
			options->qemu_count = number(optarg);
			break;
		default:
			exit(125);
		}
	}
	errno = 0;
	if (options->qemu_count < 1 || argc - optind <= options->qemu_count)
		fail("no command");
	options->qemu = argv + optind;
	options->command = options->qemu + options->qemu_count;
	options->command_count = argc - optind - options->qemu_count;
}

/* --- the job ---------------------------------------------------------------------------------------------------------
 */

static void append(struct outbound *out, const void *data, size_t length)
{
	if (out->end + length > out->size) {
		out->size = 2 * (out->end + length);
		out->data = realloc(out->data, out->size);
		if (!out->data)
			fail("memory for the job");
	}
	memcpy(out->data + out->end, data, length);
	out->end += length;
}

static void append_string(struct outbound *out, const char *text)
{
	append(out, text, strlen(text) + 1);
}

static bool is_passed_on(const char *variable)
{
	static const char *const prefixes[] = {"HULL_", "TERM=", "PATH=", "CI=", "HOME=", "LANG=", "LC_ALL="};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		if (!strncmp(variable, prefixes[i], strlen(prefixes[i])))
			return true;
	}
	return false;
}

static void append_job(struct outbound *out, const struct options *options)
{
	struct job job = {.magic = WIRE_MAGIC, .arguments = (uint32_t)options->command_count};
	char *directory = getcwd(NULL, 0);
	struct timespec now;

	if (!directory)
		fail("working directory");
	if (options->fixed_seed)
		memset(job.seed, 0x5a, sizeof(job.seed));
	else if (getrandom(job.seed, sizeof(job.seed), 0) != sizeof(job.seed))
		fail("random seed");
	append(out, &job, sizeof(job));
	append_string(out, directory);
	append_string(out, options->output ? options->output : "");
	for (int i = 0; i < options->command_count; i++)
		append_string(out, options->command[i]);
	for (char **variable = environ; *variable; variable++) {
		if (is_passed_on(*variable)) {
			append_string(out, *variable);
			job.variables++;
		}
	}
	append_string(out, "TMPDIR=/scratch/tmp");
	job.variables++;
	job.size = (uint32_t)(out->end - sizeof(job));
	clock_gettime(CLOCK_REALTIME, &now);
	job.seconds = now.tv_sec;
	job.nanoseconds = now.tv_nsec;
	memcpy(out->data, &job, sizeof(job));
	free(directory);
}

/* --- QEMU ------------------------------------------------------------------------------------------------------------
 */

/* In the child. What QEMU itself says goes to the console: the caller's standard error is the command's alone. */
_Noreturn static void run_qemu(const struct options *options, const int sockets[WIRE_PORT_END], pid_t parent)
{
	int null = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(125);
	setpgid(0, 0); /* Ctrl-C is for the supervisor */
	for (int i = 0; i < WIRE_PORT_END; i++) {
		if (dup2(sockets[i], MACHINE_FDS + i) < 0)
			_exit(125);
	}
	dup2(null, STDIN_FILENO);
	dup2(MACHINE_FDS, STDOUT_FILENO);
	dup2(MACHINE_FDS, STDERR_FILENO);
	options->qemu[options->qemu_count] = NULL; /* cuts the command off: it is of no use in this process */
	execvp(options->qemu[0], options->qemu);
	fprintf(stderr, "%s: %s\n", options->qemu[0], strerror(errno));
	_exit(125);
}

static void start_qemu(const struct options *options, int mine[WIRE_PORT_END])
{
	int theirs[WIRE_PORT_END];
	pid_t parent = getpid();

	for (int i = 0; i < WIRE_PORT_END; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
			fail("socketpair");
		mine[i] = pair[0];
		theirs[i] = pair[1];
	}
	qemu = fork();
	if (qemu < 0)
		fail("fork");
	if (!qemu)
		run_qemu(options, theirs, parent);
	for (int i = 0; i < WIRE_PORT_END; i++)
		close(theirs[i]);
}

/* --- streams ---------------------------------------------------------------------------------------------------------
 */

static void read_console(int socket)
{
	char buffer[4096];
	ssize_t n = read(socket, buffer, sizeof(buffer));

	if (n <= 0)
		return;
	if (console_log >= 0 && write(console_log, buffer, (size_t)n) < 0)
		console_log = -1; /* a full disk: the tail is still there */
	if (console_length + (size_t)n > sizeof(console_tail)) {
		memmove(console_tail, console_tail + console_length - CONSOLE_KEPT, CONSOLE_KEPT);
		console_length = CONSOLE_KEPT;
	}
	memcpy(console_tail + console_length, buffer, (size_t)n);
	console_length += (size_t)n;
}

static void read_inbound(struct inbound *in)
{
	ssize_t n;

	if (!in->frame) {
		/* Blocks for the rest of a length that comes in two parts: it is on its way. */
		n = recv(in->port, &in->frame, sizeof(in->frame), MSG_WAITALL);
		if (n == sizeof(in->frame) && !in->frame)
			in->ended = true;
		return;
	}
	n = read(in->port, in->data, in->frame < sizeof(in->data) ? in->frame : sizeof(in->data));
	if (n > 0) {
		in->frame -= (uint32_t)n;
		in->start = 0;
		in->end = (size_t)n;
	}
}

/* At most PIPE_BUF at once: a pipe that is ready takes that without blocking, whatever mode the caller has set on it.
 */
static void write_inbound(struct inbound *in)
{
	size_t length = in->end - in->start;
	ssize_t n = write(in->target, in->data + in->start, length < 4096 ? length : 4096);

	if (n > 0)
		in->start += (size_t)n;
	else if (n < 0 && errno == EPIPE)
		on_signal_exit(SIGPIPE);
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		fail(in->target == STDOUT_FILENO ? "write standard output" : "write standard error");
}

static void write_outbound(struct outbound *out)
{
	ssize_t n = send(out->port, out->data + out->start, out->end - out->start, MSG_DONTWAIT);

	if (n > 0)
		out->start += (size_t)n;
	if (out->start == out->end)
		out->start = out->end = 0;
}

/* Reads more of the caller's standard input. Returns false at its end, which has then been queued for the machine. */
static bool read_input(struct outbound *out)
{
	char data[WIRE_FRAME_MAX];
	ssize_t n = read(STDIN_FILENO, data, sizeof(data));
	uint32_t length = n > 0 ? (uint32_t)n : 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	append(out, &length, sizeof(length));
	append(out, data, length);
	return length != 0;
}

/* Returns true when there is a report. */
static bool read_report(int port, struct report *report)
{
	ssize_t n = recv(port, report, sizeof(*report), MSG_WAITALL);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		end_machine();
		fprintf(stderr, "machine: it ended before the command did\n");
		show_console();
		exit(125);
	}
	return n == sizeof(*report);
}

/* The loop. Returns the command's exit status, when both output streams have ended as well. */
static int relay(const int sockets[WIRE_PORT_END], struct outbound *job)
{
	static struct inbound output, errors;
	struct outbound input = {.port = sockets[WIRE_INPUT]};
	struct inbound *streams[] = {&output, &errors};
	bool reading = true, done = false;
	uint32_t nothing = 0;
	int status = 125;

	output.port = sockets[WIRE_OUTPUT];
	output.target = STDOUT_FILENO;
	errors.port = sockets[WIRE_ERRORS];
	errors.target = STDERR_FILENO;
	if (isatty(STDIN_FILENO) || fcntl(STDIN_FILENO, F_GETFD) < 0) {
		append(&input, &nothing, sizeof(nothing));
		reading = false;
	}
	while (!done || !output.ended || !errors.ended || output.start < output.end || errors.start < errors.end) {
		struct pollfd polls[] = {
		    {.fd = sockets[0], .events = POLLIN},
		    {.fd = job->port, .events = (short)(POLLIN | (job->start < job->end ? POLLOUT : 0))},
		    {.fd = input.start < input.end ? input.port : -1, .events = POLLOUT},
		    {.fd = reading && input.start == input.end ? STDIN_FILENO : -1, .events = POLLIN},
		    {.fd = -1},
		    {.fd = -1},
		};

		for (int i = 0; i < 2; i++) {
			bool full = streams[i]->start < streams[i]->end;

			polls[4 + i].fd = full ? streams[i]->target : streams[i]->ended ? -1 : streams[i]->port;
			polls[4 + i].events = full ? POLLOUT : POLLIN;
		}
		if (poll(polls, 6, -1) < 0)
			continue;
		if (polls[0].revents)
			read_console(sockets[0]);
		if (polls[1].revents & POLLOUT)
			write_outbound(job);
		if (polls[2].revents)
			write_outbound(&input);
		if (polls[3].revents)
			reading = read_input(&input);
		for (int i = 0; i < 2; i++) {
			if (polls[4 + i].revents && streams[i]->start < streams[i]->end)
				write_inbound(streams[i]);
			else if (polls[4 + i].revents)
				read_inbound(streams[i]);
		}
		if (polls[1].revents & (POLLIN | POLLHUP)) {
			struct report report;

			if (!read_report(job->port, &report))
				continue;
			if (report.kind == REPORT_FAILED) {
				end_machine();
				fprintf(stderr, "machine: %.*s\n", (int)sizeof(report.text), report.text);
				exit(125);
			}
			if (report.kind == REPORT_STATUS) {
				status = report.value;
				done = true;
			}
		}
	}
	return status;
}

static void catch_signals(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGALRM};
	struct sigaction action = {.sa_handler = on_signal};

	sigfillset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaction(numbers[i], &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
	struct options options = {.timeout = 600};
	int sockets[WIRE_PORT_END], status;
	struct outbound job = {0};

	parse(argc, argv, &options);
	if (options.console) {
		console_log = open(options.console, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (console_log < 0)
			fail(options.console);
	}
	append_job(&job, &options);
	catch_signals();
	start_qemu(&options, sockets);
	snprintf(late_message, sizeof(late_message), "machine: timed out after %u seconds\n", options.timeout);
	alarm(options.timeout);
	job.port = sockets[WIRE_CONTROL];
	status = relay(sockets, &job);
	end_machine();
	return status;
}

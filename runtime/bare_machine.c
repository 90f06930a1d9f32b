#include "runtime/bare_machine.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "runtime/failure.h"
#include "runtime/signals.h"

/* How long a machine whose connections broke may take to end. */
#define LAST_WORDS_MS 1000

static int prepare(struct bare_machine *bare, struct error *err)
{
	sigset_t interrupting;

	bare->result = memfd_create("result", MFD_CLOEXEC);
	bare->log = memfd_create("log", MFD_CLOEXEC);
	if (bare->result < 0 || bare->log < 0)
		return error_set_errno(err, "make a file in memory");
	signals_interrupting(&interrupting);
	sigprocmask(SIG_BLOCK, &interrupting, NULL);
	bare->signals = signalfd(-1, &interrupting, SFD_CLOEXEC);
	return bare->signals < 0 ? error_set_errno(err, "make a signal descriptor") : 0;
}

int bare_machine_start(struct bare_machine *bare, struct machine_plan *plan, unsigned timeout, struct error *err)
{
	if (prepare(bare, err) < 0)
		return -1;
	plan->control = bare->control;
	plan->result = bare->result;
	plan->log = bare->log;
	plan->cgroup = plan->console = -1;
	if (machine_start(plan, &bare->machine, err) < 0)
		return -1;
	bare->watch.vmm = bare->machine.vmm.pidfd;
	bare->watch.signals = bare->signals;
	bare->watch.idle_process = bare->machine.vmm.pid;
	watch_set_timeout(&bare->watch, timeout);
	return 0;
}

void bare_machine_explain(struct bare_machine *bare, struct error *err)
{
	struct pollfd vmm = {.fd = bare->machine.vmm.pidfd, .events = POLLIN};

	if (bare->machine.vmm.pid <= 0 || bare->watch.event == WATCH_TIMEOUT || bare->watch.event == WATCH_SIGNAL ||
	    poll(&vmm, 1, LAST_WORDS_MS) != 1)
		return;
	failure_explain(bare->result, bare->log, child_wait(&bare->machine.vmm), err);
}

void bare_machine_release(struct bare_machine *bare)
{
	machine_end(&bare->machine);
	cleanup_close_fd(&bare->control);
	cleanup_close_fd(&bare->result);
	cleanup_close_fd(&bare->log);
	cleanup_close_fd(&bare->signals);
}

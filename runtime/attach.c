#include "runtime/attach.h"

#include <errno.h>

#include "common/cleanup.h"
#include "runtime/agent.h"

void attachment_release(struct attachment *attachment)
{
	cleanup_close_fd(&attachment->agent);
	cleanup_close_fd(&attachment->control);
	cleanup_close_fd(&attachment->watch.vmm);
	*attachment = ATTACHMENT_NONE;
}

int attach(const struct container *container, unsigned seconds, struct attachment *attachment, struct error *err)
{
	if (!process_alive(&container->state.vmm))
		return error_set(err, ESRCH, "container %s: its process has ended", container->id);
	return attach_sandbox(container, seconds, attachment, err);
}

int attach_sandbox(const struct container *container, unsigned seconds, struct attachment *attachment,
		   struct error *err)
{
	const struct state *state = &container->state;

	*attachment = ATTACHMENT_NONE;
	attachment->watch.vmm = process_open(state->sandbox ? &state->machine : &state->vmm);
	if (attachment->watch.vmm < 0)
		return error_set_errno(err, "hull-vmm of container %s", container->id);
	watch_set_timeout(&attachment->watch, seconds);
	attachment->control = vmm_control_connect(container->folder, CONTAINER_CONTROL_SOCKET, err);
	if (attachment->control < 0) {
		attachment_release(attachment);
		return -1;
	}
	return 0;
}

int attach_agent(struct attachment *attachment, struct error *err)
{
	attachment->agent = agent_connect(attachment->control, &attachment->watch, err);
	return attachment->agent < 0 ? -1 : 0;
}

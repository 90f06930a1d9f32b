/*
 * What a saved machine keeps of its vsock device.
 *
 * It is saved with one connection open: that of the agent's reports, which has no end on the host but this device, so
 * that it goes on in the restored machine as if nothing had happened. No other can: its host's end belongs to somebody.
 * The guest therefore needs no TRANSPORT_RESET event, with which it would forget this one as well.
 */
#include <errno.h>

#include "vmm/virtio/vsock_parts.h"

bool vsock_has_connections(const struct vsock *vsock)
{
	return vsock->connection_count > (vsock->report ? 1u : 0u);
}

int vsock_rest(struct vsock *vsock, struct error *err)
{
	if (!vsock->report || !vsock->ready || vsock->report_filled != 0)
		return error_set(err, EAGAIN, "the agent is not ready");
	if (vsock->exiting || vsock->failure)
		return error_set(err, ESHUTDOWN, "the guest has come to its end");
	if (vsock_has_connections(vsock))
		return error_set(err, EBUSY, "a connection to the guest is open");
	if (vsock->reset_count || !TAILQ_EMPTY(&vsock->pending))
		return error_set(err, EAGAIN, "the guest does not take what is sent to it");
	queue_put_back(&vsock->base.queues[RX], vsock->rx_count);
	vsock->rx_first = vsock->rx_count = 0;
	return 0;
}

struct saved_vsock {
	uint64_t guest_cid;
	uint32_t next_ephemeral;
	/* Of the report connection. */
	uint32_t guest_port;
	uint32_t received, delivered, credit_told;
	uint32_t sent, guest_buffer, guest_forward;
};

void vsock_save(const struct virtio_device *device, struct state_writer *writer)
{
	const struct vsock *vsock = (const struct vsock *)device;
	const struct vsock_connection *report = vsock->report;
	struct saved_vsock saved = {.guest_cid = vsock->guest_cid,
				    .next_ephemeral = vsock->next_ephemeral,
				    .guest_port = report->guest_port,
				    .received = report->credit.received,
				    .delivered = report->stream.delivered,
				    .credit_told = report->credit.told,
				    .sent = report->credit.sent,
				    .guest_buffer = report->credit.guest_buffer,
				    .guest_forward = report->credit.guest_forward};

	state_put(writer, &saved, sizeof(saved));
}

int vsock_restore(struct virtio_device *device, struct state_reader *reader, struct error *err)
{
	struct vsock *vsock = (struct vsock *)device;
	struct vsock_connection *report;
	struct saved_vsock saved;

	if (state_take(reader, &saved, sizeof(saved), err) < 0)
		return -1;
	if (saved.guest_cid != vsock->guest_cid || !device->active)
		return error_set(err, EINVAL, "the guest had another CID, or no driver");
	report = vsock_accept_report(vsock, saved.guest_port);
	if (!report)
		return error_set(err, ENOMEM, "the agent's connection");
	vsock->next_ephemeral = saved.next_ephemeral;
	report->stream.delivered = saved.delivered;
	report->credit = (struct vsock_credit){.received = saved.received,
					       .told = saved.credit_told,
					       .sent = saved.sent,
					       .guest_buffer = saved.guest_buffer,
					       .guest_forward = saved.guest_forward};
	vsock->ready = true;
	vsock->rx_asked = !device->queues[RX].quiet;
	if (vsock->notice_waits)
		connection_owe(report, OWES_NOTICE);
	vsock->notice_waits = false;
	vsock_settle_later(vsock);
	return 0;
}

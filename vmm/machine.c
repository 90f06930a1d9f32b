#include "vmm/machine.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/vmm_control.h"
#include "vmm/hotplug.h"
#include "vmm/machine_parts.h"
#include "vmm/virtio/devices.h"
#include "vmm/virtio/fs.h"
#include "vmm/virtio/pci.h"
#include "vmm/virtio/vsock.h"

#define RESET_PORT 0xcf9 /* "reset control" of the PC's chip sets */
#define RESET_PORT_HARD 0x04
#define KEYBOARD_PORT 0x64 /* the keyboard controller's command port */
#define KEYBOARD_RESET 0xfe

/* --- the end ---------------------------------------------------------------------------------------------------------
 */

/* The first end counts. With the loop's lock held. */
void machine_end(struct machine *machine, enum machine_end how, unsigned status, const char *text)
{
	struct machine_result *result = machine->result;

	if (result->end)
		return;
	result->end = how;
	result->status = status;
	snprintf(result->text, sizeof(result->text), "%s", text);
	loop_stop(machine->loop, 0);
}

/* Once the agent has reported the exit, nothing that becomes of the guest is a failure any more: the status follows as
 * soon as the output is delivered. */
static bool is_exiting(const struct machine *machine)
{
	return vsock_status(machine->vsock) & VMM_STATUS_EXITING;
}

static void guest_reported(void *owner, enum vsock_event event, uint32_t value)
{
	struct machine *machine = owner;

	switch (event) {
	case VSOCK_READY:
		break;
	case VSOCK_OOM:
		oom_stand_in_use(machine->options->oom);
		break;
	case VSOCK_EXITED:
		machine_end(machine, MACHINE_EXITED, value, "exited");
		break;
	case VSOCK_FAILED:
		machine_end(machine, MACHINE_FAILED, 0, vsock_failure_text(value));
		break;
	}
}

/* An end that the guest has not reported: unless that report is what it did last. */
struct unreported {
	struct machine *machine;
	enum machine_end how;
	const char *text;
};

/* On the loop's thread: what the guest sent before it went may still lie in the ring. */
static void end_unreported(void *argument)
{
	const struct unreported *unreported = argument;
	struct machine *machine = unreported->machine;

	vsock_catch_up(machine->vsock);
	if (!is_exiting(machine))
		machine_end(machine, unreported->how, 0, unreported->text);
}

static void file_server_ended(void *owner)
{
	end_unreported(&(struct unreported){owner, MACHINE_FAILED, "file server ended"});
}

/* --- exits of the vCPUs: on their threads ----------------------------------------------------------------------------
 */

/* With the loop's lock held. */
static void guest_panicked(void *owner)
{
	struct machine *machine = owner;
	char last[CONSOLE_TAIL + 1];

	console_last(&machine->console, last);
	console_panic(last, machine->why, sizeof(machine->why));
	loop_call(machine->loop, end_unreported, &(struct unreported){machine, MACHINE_PANICKED, machine->why});
}

static void vcpu_failed(void *owner, const char *reason)
{
	struct machine *machine = owner;

	loop_lock(machine->loop);
	loop_call(machine->loop, end_unreported, &(struct unreported){machine, MACHINE_FAILED, reason});
	loop_unlock(machine->loop);
}

static void shutdown_guest(void *owner)
{
	static const char what[] = "the guest shut down without reporting an exit status";
	struct machine *machine = owner;
	char last[CONSOLE_TAIL + 1], line[sizeof(machine->why) - sizeof(what) - 2], text[sizeof(machine->why)];

	console_last(&machine->console, last);
	console_last_line(last, line, sizeof(line));
	snprintf(text, sizeof(text), "%s%s%s", what, *line ? ": " : "", line);
	vcpu_failed(machine, text);
}

static void port_read(void *owner, uint16_t port, void *data, unsigned size)
{
	struct machine *machine = owner;
	uint8_t value;

	memset(data, 0xff, size);
	if (console_has_port(port)) {
		value = console_read(&machine->console, port);
		memcpy(data, &value, sizeof(value));
		return;
	}
	loop_lock(machine->loop);
	pci_port_read(&machine->bus, port, data, size);
	loop_unlock(machine->loop);
}

static bool is_reset(uint16_t port, uint8_t value)
{
	return (port == RESET_PORT && (value & RESET_PORT_HARD)) || (port == KEYBOARD_PORT && value == KEYBOARD_RESET);
}

static void port_write(void *owner, uint16_t port, const void *data, unsigned size)
{
	struct machine *machine = owner;
	uint8_t value;

	memcpy(&value, data, sizeof(value));
	if (console_has_port(port)) {
		console_write(&machine->console, port, value);
	} else if (size == 1 && is_reset(port, value)) {
		shutdown_guest(machine);
	} else {
		loop_lock(machine->loop);
		pci_port_write(&machine->bus, port, data, size);
		loop_unlock(machine->loop);
	}
}

static void memory_read(void *owner, uint64_t address, void *data, unsigned size)
{
	struct machine *machine = owner;

	loop_lock(machine->loop);
	pci_memory_read(&machine->bus, address, data, size);
	loop_unlock(machine->loop);
}

/* The loop's lock may be held for long while files are read: then the loop's thread is told, and the CPU goes on. */
static bool ring_directly(struct machine *machine, uint64_t address)
{
	for (unsigned i = 0; i < DIRECT_DOORBELLS_MAX; i++) {
		struct direct_doorbell *doorbell = &machine->doorbells[i];
		uint64_t one = 1;
		bool done = false;

		if (__atomic_load_n(&doorbell->address, __ATOMIC_ACQUIRE) != address)
			continue;
		if (loop_try_lock(machine->loop)) {
			/* Moved meanwhile: nobody is meant. */
			done = doorbell->address != address || doorbell->ring(doorbell->argument);
			loop_unlock(machine->loop);
		}
		return done || write(doorbell->eventfd, &one, sizeof(one)) >= 0 || errno == EAGAIN;
	}
	return false;
}

static void memory_write(void *owner, uint64_t address, const void *data, unsigned size)
{
	struct machine *machine = owner;

	if (size == 2 && ring_directly(machine, address))
		return;
	loop_lock(machine->loop);
	pci_memory_write(&machine->bus, address, data, size);
	loop_unlock(machine->loop);
}

/* --- building --------------------------------------------------------------------------------------------------------
 */

static void send_msi(void *owner, uint64_t address, uint32_t data)
{
	struct machine *machine = owner;

	kvm_send_msi(&machine->kvm, address, data);
}

static int add_doorbell(void *owner, uint64_t address, int eventfd, struct error *err)
{
	struct machine *machine = owner;

	return kvm_add_doorbell(&machine->kvm, address, eventfd, err);
}

static void remove_doorbell(void *owner, uint64_t address, int eventfd)
{
	struct machine *machine = owner;

	kvm_remove_doorbell(&machine->kvm, address, eventfd);
}

static int add_direct_doorbell(void *owner, uint64_t address, int eventfd, bool (*ring)(void *), void *argument,
			       struct error *err)
{
	struct machine *machine = owner;

	for (unsigned i = 0; i < DIRECT_DOORBELLS_MAX; i++) {
		struct direct_doorbell *doorbell = &machine->doorbells[i];

		if (doorbell->address != 0)
			continue;
		doorbell->eventfd = eventfd;
		doorbell->ring = ring;
		doorbell->argument = argument;
		__atomic_store_n(&doorbell->address, address, __ATOMIC_RELEASE);
		return 0;
	}
	return error_set(err, ENOSPC, "no room for another doorbell");
}

static void remove_direct_doorbell(void *owner, uint64_t address)
{
	struct machine *machine = owner;

	for (unsigned i = 0; i < DIRECT_DOORBELLS_MAX; i++)
		if (machine->doorbells[i].address == address)
			__atomic_store_n(&machine->doorbells[i].address, 0, __ATOMIC_RELEASE);
}

static int put_on_bus(struct machine *machine, struct virtio_device *device, struct error *err)
{
	if (!device || !virtio_pci_add(&machine->bus, device, machine->memory, machine->loop, err))
		return -1;
	machine->devices[machine->device_count++] = device;
	return 0;
}

static int add_pvpanic(struct machine *machine, struct error *err)
{
	machine->pvpanic.panicked = guest_panicked;
	machine->pvpanic.owner = machine;
	return pvpanic_add(&machine->pvpanic, &machine->bus, err);
}

static int add_vsock(struct machine *machine, struct error *err)
{
	machine->vsock = vsock_new(VSOCK_GUEST_CID_DEFAULT, machine->loop, err);
	if (put_on_bus(machine, machine->vsock, err) < 0)
		return -1;
	vsock_on_report(machine->vsock, guest_reported, machine);
	return 0;
}

static int add_streams(struct machine *machine, struct error *err)
{
	for (unsigned i = 0; i < machine->options->stream_count; i++) {
		const struct machine_stream *stream = &machine->options->streams[i];
		uint32_t port = stream->port;

		if (stream->window &&
		    window_watch(&machine->window, stream->fd, port, machine->vsock, machine->loop, err) < 0)
			return error_prefix(err, "stream %u", stream->port);
		if (vsock_add_stream(machine->vsock, &port, stream->fd, stream->flags, NULL, err) < 0)
			return error_prefix(err, "stream %u", stream->port);
	}
	return 0;
}

static int add_clock(struct machine *machine, struct error *err)
{
	return clock_watch(&machine->clock, machine->vsock, machine->loop, err);
}

static int add_control(struct machine *machine, struct error *err)
{
	machine->control = control_new(machine->options->control_fd, machine->vsock, machine->loop, err);
	if (!machine->control)
		return -1;
	if (machine->options->savable)
		snapshot_serve(machine);
	hotplug_serve(machine);
	return 0;
}

static int add_rng(struct machine *machine, struct error *err)
{
	return put_on_bus(machine, rng_new(machine->loop, err), err);
}

static int add_fs(struct machine *machine, struct error *err)
{
	struct virtio_device *device;

	if (machine->options->fs_fd < 0)
		return 0;
	device = fs_new(machine->options->fs_fd, AGENT_FS_TAG, machine->loop, err);
	if (put_on_bus(machine, device, err) < 0)
		return -1;
	fs_on_end(device, file_server_ended, machine);
	return 0;
}

static struct virtio_device *new_disk(struct machine *machine, unsigned index, struct error *err)
{
	const struct machine_disk *disk = &machine->options->disks[index];

	return blk_new(disk->fd, disk->readonly, disk->serial, machine->loop, err);
}

/* How many disks the machine is built with: one that is restored has as many as when it was saved. */
static unsigned disks_to_build(const struct machine *machine)
{
	unsigned count = machine->options->disk_count, saved;

	if (machine->options->state_fd < 0)
		return count;
	saved = snapshot_devices(machine);
	saved -= saved < machine->device_count ? saved : machine->device_count;
	return saved < count ? saved : count;
}

static int add_disks(struct machine *machine, struct error *err)
{
	unsigned count = disks_to_build(machine);

	for (; machine->built_disks < count; machine->built_disks++)
		if (put_on_bus(machine, new_disk(machine, machine->built_disks, err), err) < 0)
			return error_prefix(err, "disk %u", machine->built_disks);
	return 0;
}

/* The others come to the restored machine as to one that runs. */
static int plug_disks(struct machine *machine, struct error *err)
{
	for (unsigned i = machine->built_disks; i < machine->options->disk_count; i++) {
		struct virtio_device *device = new_disk(machine, i, err);
		uint32_t slot;

		if (!device || hotplug_add(machine, device, &slot, err) < 0)
			return error_prefix(err, "disk %u", i);
	}
	return 0;
}

/* All devices, in the order of their slots on the bus. */
static const struct {
	const char *name;
	int (*add)(struct machine *machine, struct error *err);
} devices[] = {
    {"pvpanic", add_pvpanic}, {"vsock", add_vsock},	{"rng", add_rng},     {"fs", add_fs},
    {"disks", add_disks},     {"streams", add_streams}, {"clock", add_clock}, {"control", add_control},
};

static int add_devices(struct machine *machine, struct error *err)
{
	const struct pci_host host = {.send_msi = send_msi,
				      .add_doorbell = add_doorbell,
				      .remove_doorbell = remove_doorbell,
				      .add_direct_doorbell = add_direct_doorbell,
				      .remove_direct_doorbell = remove_direct_doorbell,
				      .owner = machine};

	pci_bus_init(&machine->bus, &host);
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		if (devices[i].add(machine, err) < 0)
			return error_prefix(err, "%s", devices[i].name);
	return 0;
}

static int create_vcpus(struct machine *machine, struct error *err)
{
	if (cpuid_get(&machine->cpuid, &machine->kvm, machine->options->vcpu_count, err) < 0)
		return -1;
	for (unsigned i = 0; i < machine->options->vcpu_count; i++)
		if (vcpu_create(&machine->vcpus[i], i, &machine->kvm, err) < 0)
			return -1;
	if (machine->options->savable &&
	    (msr_list_get(&machine->snapshot.msrs, &machine->kvm, err) < 0 || vcpu_allow_interrupts(err) < 0))
		return -1;
	return 0;
}

static int boot_vcpus(struct machine *machine, const struct boot_image *image, struct error *err)
{
	for (unsigned i = 0; i < machine->options->vcpu_count; i++)
		if (vcpu_boot(&machine->vcpus[i], &machine->cpuid, image, err) < 0)
			return -1;
	return 0;
}

static void close_given(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* Mapped and asked: nothing needs them any more. */
static void close_sources(struct machine *machine)
{
	const struct machine_options *options = machine->options;

	close_given(options->kernel_fd);
	close_given(options->initramfs_fd);
	close_given(options->state_fd);
	close_given(options->memory_fd);
	close_given(options->kvm_fd);
	machine->kvm.kvm = -1;
}

static int load(struct machine *machine, struct boot_image *image, struct error *err)
{
	const struct machine_options *options = machine->options;
	const struct boot_options boot = {.kernel_fd = options->kernel_fd,
					  .initramfs_fd = options->initramfs_fd,
					  .command_line = options->command_line,
					  .vcpu_count = options->vcpu_count};

	if (options->state_fd >= 0)
		return snapshot_load(machine, err);
	return boot_load(machine->memory, &boot, image, err);
}

static void trace(const struct machine *machine, const char *step)
{
	if (machine->options->trace)
		log_line(VMM_TRACE_WORD " %lld %s", (long long)now_ns(), step);
}

static int build(struct machine *machine, struct error *err)
{
	const struct machine_options *options = machine->options;
	bool restored = options->state_fd >= 0;
	struct boot_image image = {0};

	trace(machine, "hull-vmm has begun");
	console_init(&machine->console, options->console_fd);
	machine->loop = loop_new(err);
	if (!machine->loop)
		return -1;
	machine->memory = guest_memory_new(options->memory, err);
	if (!machine->memory || load(machine, &image, err) < 0)
		return -1;
	trace(machine, "memory is mapped");
	if (kvm_open(&machine->kvm, options->kvm_fd, machine->memory, err) < 0 || create_vcpus(machine, err) < 0)
		return -1;
	trace(machine, "KVM has the machine and its CPUs");
	if (!restored && boot_vcpus(machine, &image, err) < 0)
		return -1;
	close_sources(machine);
	if (add_devices(machine, err) < 0)
		return -1;
	trace(machine, "the devices are there");
	if (restored && snapshot_restore(machine, err) < 0)
		return -1;
	machine->bus.running = true;
	if (plug_disks(machine, err) < 0)
		return -1;
	trace(machine, restored ? "the state is restored" : "the machine is ready to boot");
	return 0;
}

/* --- running ---------------------------------------------------------------------------------------------------------
 */

/* Each thread comes through here, and none goes on before all have their filter. */
static int filter_thread(struct machine *machine, enum jail_thread kind, struct error *err)
{
	bool failed = jail_filter(kind, err) < 0;

	if (failed)
		machine->filter_failed = true;
	pthread_barrier_wait(&machine->filtered);
	if (failed)
		return -1;
	return machine->filter_failed ? error_set(err, 0, "another thread has no system call filter") : 0;
}

static int enter_guest(void *owner, struct error *err)
{
	prctl(PR_SET_NAME, "hull-vcpu");
	return filter_thread(owner, JAIL_THREAD_VCPU, err);
}

static const struct vcpu_operations vcpu_operations = {
    .port_read = port_read,
    .port_write = port_write,
    .memory_read = memory_read,
    .memory_write = memory_write,
    .shutdown = shutdown_guest,
    .failed = vcpu_failed,
    .enter = enter_guest,
    .interrupted = snapshot_interrupted,
};

static int start(struct machine *machine, struct error *err)
{
	if (jail_enter(&machine->options->jail, err) < 0)
		return -1;
	trace(machine, "the process is jailed");
	pthread_barrier_init(&machine->filtered, NULL, machine->options->vcpu_count + 1);
	for (unsigned i = 0; i < machine->options->vcpu_count; i++)
		if (vcpu_start(&machine->vcpus[i], &vcpu_operations, machine, err) < 0)
			return -1;
	if (filter_thread(machine, machine->options->savable ? JAIL_THREAD_SAVING : JAIL_THREAD_LOOP, err) < 0)
		return -1;
	trace(machine, "the guest runs");
	return 0;
}

/* Where the kernel's messages are not kept, these are the only ones that there are. */
static void log_last_words(struct machine *machine)
{
	char last[CONSOLE_TAIL + 1], *rest = last, *line;

	console_last(&machine->console, last);
	while ((line = strsep(&rest, "\n")))
		if (*line)
			log_line("guest: %s", line);
}

void machine_run(const struct machine_options *options, struct machine_result *result)
{
	/* Static: the vCPUs' threads may still be in it when this returns. */
	static struct machine machine;
	struct error err;

	*result = (struct machine_result){0};
	machine = (struct machine){.options = options, .result = result};
	if (build(&machine, &err) < 0 || start(&machine, &err) < 0) {
		result->end = MACHINE_FAILED;
		memcpy(result->text, err.message, sizeof(result->text));
		return;
	}
	loop_run(machine.loop);
	console_flush(&machine.console);
	if (result->end == MACHINE_PANICKED)
		log_last_words(&machine);
}

/*
 * How a machine is stopped. The request comes to the loop's thread, which tells every vCPU to leave the guest and goes
 * on with its work: a vCPU may be waiting for that. The last vCPU to arrive has the loop's thread save the machine;
 * nothing runs then but that thread. Devices come to rest first (virtio_pci_quiesce), since that may send interrupts,
 * which belong to the vCPUs' state; then every part is written.
 *
 * System calls at run time: tgkill (vcpu_interrupt), futex; fstat, write; those of vmm/x86_64/vcpu_state.c and
 * vmm/memory_image.c.
 */
#include "vmm/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "vmm/machine_parts.h"
#include "vmm/memory_image.h"
#include "vmm/virtio/pci.h"

/* --- the parts -------------------------------------------------------------------------------------------------------
 */

/* One section of a kind: index says which, where there are several. */
struct part_save {
	struct machine *machine;
	struct state_writer *writer;
	const struct memory_image *image;
	uint32_t index;
};

struct saved_machine {
	char hull[32]; /* version */
	char identity[SNAPSHOT_IDENTITY_MAX + 1];
	uint64_t memory;
	uint64_t vcpu_count;
};

static void describe(const struct machine *machine, struct saved_machine *saved)
{
	*saved = (struct saved_machine){.memory = machine->options->memory, .vcpu_count = machine->options->vcpu_count};
	snprintf(saved->hull, sizeof(saved->hull), "%s", HULL_VERSION);
	snprintf(saved->identity, sizeof(saved->identity), "%s", machine->options->identity);
}

static int save_machine(const struct part_save *part, struct error *err)
{
	struct saved_machine saved;

	(void)err;
	describe(part->machine, &saved);
	state_put(part->writer, &saved, sizeof(saved));
	return 0;
}

static bool same_text(const char *own, const char *saved, size_t size)
{
	return memcmp(own, saved, size) == 0;
}

static int restore_machine(struct machine *machine, uint32_t index, struct state_reader *reader, struct error *err)
{
	struct saved_machine saved, own;

	(void)index;
	describe(machine, &own);
	if (state_take(reader, &saved, sizeof(saved), err) < 0)
		return -1;
	if (!same_text(own.hull, saved.hull, sizeof(own.hull)))
		return error_set(err, EINVAL, "it is of hull %.*s, this is %s", (int)sizeof(saved.hull) - 1, saved.hull,
				 own.hull);
	if (!same_text(own.identity, saved.identity, sizeof(own.identity)))
		return error_set(err, EINVAL, "it is of another guest: `%.*s`, not `%s`", SNAPSHOT_IDENTITY_MAX,
				 saved.identity, own.identity);
	if (own.memory != saved.memory)
		return error_set(err, EINVAL, "it has %llu bytes of memory, not %llu", (unsigned long long)saved.memory,
				 (unsigned long long)own.memory);
	if (own.vcpu_count != saved.vcpu_count)
		return error_set(err, EINVAL, "it has %llu CPUs, not %llu", (unsigned long long)saved.vcpu_count,
				 (unsigned long long)own.vcpu_count);
	return state_end(reader, err);
}

static int save_memory(const struct part_save *part, struct error *err)
{
	const struct memory_image *image = part->image;

	(void)err;
	state_put(part->writer, image, offsetof(struct memory_image, extents));
	state_put(part->writer, image->extents, image->count * sizeof(image->extents[0]));
	return 0;
}

static int restore_memory(struct machine *machine, uint32_t index, struct state_reader *reader, struct error *err)
{
	struct memory_image image;

	(void)index;
	if (state_take(reader, &image, offsetof(struct memory_image, extents), err) < 0)
		return -1;
	if (image.count > MEMORY_EXTENTS_MAX)
		return error_set(err, EINVAL, "too many pieces of memory");
	if (state_take(reader, image.extents, image.count * sizeof(image.extents[0]), err) < 0 ||
	    state_end(reader, err) < 0)
		return -1;
	return memory_image_map(machine->memory, &image, machine->options->memory_fd, err);
}

/* What the CPUs were is what they have to be again, down to the last bit: a guest asks once, at its boot. */
static int save_cpuid(const struct part_save *part, struct error *err)
{
	struct cpuid *cpuid = &part->machine->cpuid;

	(void)err;
	cpuid_set_apic_id(cpuid, 0);
	state_put(part->writer, cpuid, offsetof(struct cpuid, entries));
	state_put(part->writer, cpuid->entries, cpuid->count * sizeof(cpuid->entries[0]));
	return 0;
}

static int restore_cpuid(struct machine *machine, uint32_t index, struct state_reader *reader, struct error *err)
{
	static struct cpuid saved;

	(void)index;
	if (state_take(reader, &saved, offsetof(struct cpuid, entries), err) < 0)
		return -1;
	if (saved.count > CPUID_ENTRIES_MAX)
		return error_set(err, EINVAL, "too many features of the CPU");
	if (state_take(reader, saved.entries, saved.count * sizeof(saved.entries[0]), err) < 0)
		return -1;
	cpuid_set_apic_id(&machine->cpuid, 0);
	if (!cpuid_equal(&saved, &machine->cpuid))
		return error_set(err, EINVAL, "it is of another CPU, or of a host that offers other features of it");
	return state_end(reader, err);
}

static int save_vcpu(const struct part_save *part, struct error *err)
{
	return vcpu_save(&part->machine->vcpus[part->index], &part->machine->snapshot.msrs, part->writer, err);
}

static int restore_vcpu(struct machine *machine, uint32_t index, struct state_reader *reader, struct error *err)
{
	return vcpu_restore(&machine->vcpus[index], &machine->cpuid, reader, err);
}

static int save_clock(const struct part_save *part, struct error *err)
{
	const struct machine *machine = part->machine;

	return clock_save(&machine->kvm, machine->vcpus, machine->options->vcpu_count, part->writer, err);
}

static int restore_clock(struct machine *machine, uint32_t index, struct state_reader *reader, struct error *err)
{
	(void)index;
	return clock_restore(&machine->kvm, machine->vcpus, machine->options->vcpu_count, reader, err);
}

static int save_bus(const struct part_save *part, struct error *err)
{
	(void)err;
	pci_bus_save(&part->machine->bus, part->writer);
	return 0;
}

static int restore_bus(struct machine *machine, uint32_t index, struct state_reader *reader, struct error *err)
{
	(void)index;
	return pci_bus_restore(&machine->bus, reader, err);
}

static int save_pvpanic(const struct part_save *part, struct error *err)
{
	(void)err;
	pvpanic_save(&part->machine->pvpanic, part->writer);
	return 0;
}

static int restore_pvpanic(struct machine *machine, uint32_t index, struct state_reader *reader, struct error *err)
{
	(void)index;
	return pvpanic_restore(&machine->pvpanic, reader, err);
}

static int save_device(const struct part_save *part, struct error *err)
{
	(void)err;
	virtio_pci_save(part->machine->devices[part->index]->transport, part->writer);
	return 0;
}

static int restore_device(struct machine *machine, uint32_t index, struct state_reader *reader, struct error *err)
{
	return virtio_pci_restore(machine->devices[index]->transport, reader, err);
}

static int save_console(const struct part_save *part, struct error *err)
{
	(void)err;
	console_save(&part->machine->console, part->writer);
	return 0;
}

static int restore_console(struct machine *machine, uint32_t index, struct state_reader *reader, struct error *err)
{
	(void)index;
	return console_restore(&machine->console, reader, err);
}

static uint32_t one(const struct machine *machine)
{
	(void)machine;
	return 1;
}

static uint32_t vcpu_count(const struct machine *machine)
{
	return machine->options->vcpu_count;
}

static uint32_t device_count(const struct machine *machine)
{
	return machine->device_count;
}

/* All parts, in the order of the state (enum state_kind). */
static const struct part {
	enum state_kind kind;
	const char *name;
	uint32_t (*count)(const struct machine *machine);
	int (*save)(const struct part_save *part, struct error *err);
	int (*restore)(struct machine *machine, uint32_t index, struct state_reader *reader, struct error *err);
} parts[] = {
    {STATE_MACHINE, "machine", one, save_machine, restore_machine},
    {STATE_MEMORY, "memory", one, save_memory, restore_memory},
    {STATE_CPUID, "CPU features", one, save_cpuid, restore_cpuid},
    {STATE_VCPU, "CPU", vcpu_count, save_vcpu, restore_vcpu},
    {STATE_CLOCK, "clock", one, save_clock, restore_clock},
    {STATE_BUS, "bus", one, save_bus, restore_bus},
    {STATE_PVPANIC, "pvpanic", one, save_pvpanic, restore_pvpanic},
    {STATE_VIRTIO, "device", device_count, save_device, restore_device},
    {STATE_CONSOLE, "console", one, save_console, restore_console},
};

#define PARTS (sizeof(parts) / sizeof(parts[0]))

/* --- saving ----------------------------------------------------------------------------------------------------------
 */

static int quiesce(struct machine *machine, struct error *err)
{
	for (unsigned i = 0; i < PCI_SLOTS; i++)
		if (machine->plugged[i])
			return error_set(err, EBUSY, "%s: added to the running machine, and still there",
					 machine->plugged[i]->operations->name);
	for (unsigned i = 0; i < machine->device_count; i++)
		if (virtio_pci_quiesce(machine->devices[i]->transport, err) < 0)
			return -1;
	return 0;
}

static int save_parts(struct part_save *save, struct error *err)
{
	for (size_t i = 0; i < PARTS; i++) {
		for (save->index = 0; save->index < parts[i].count(save->machine); save->index++) {
			state_section(save->writer, parts[i].kind, save->index);
			if (parts[i].save(save, err) < 0)
				return error_prefix(err, "%s %u", parts[i].name, save->index);
		}
	}
	return state_finish(save->writer, err);
}

static int check_target(int fd, struct error *err)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return error_set_errno(err, "state file");
	if (!S_ISREG(status.st_mode) || status.st_size != 0)
		return error_set(err, EINVAL, "state file: not an empty regular file");
	return 0;
}

/* The state comes last: a file that is complete says that the other one is. */
static int save(struct machine *machine, const struct save_request *request, struct error *err)
{
	static struct memory_image image;
	__attribute__((cleanup(state_writer_free))) struct state_writer writer = {0};
	struct part_save part = {.machine = machine, .writer = &writer, .image = &image};

	if (check_target(request->state_fd, err) < 0 || quiesce(machine, err) < 0 ||
	    memory_image_write(machine->memory, request->memory_fd, &image, err) < 0)
		return -1;
	state_begin(&writer);
	if (save_parts(&part, err) < 0)
		return -1;
	if (write_exactly(request->state_fd, writer.data, writer.size) < 0)
		return error_set_errno(err, "write the state file");
	return 0;
}

/* --- stopping and going on -------------------------------------------------------------------------------------------
 */

static void set_stopped(struct machine *machine, bool stopped)
{
	struct snapshot *snapshot = &machine->snapshot;

	pthread_mutex_lock(&snapshot->lock);
	snapshot->stopped = stopped;
	snapshot->parked = 0;
	pthread_cond_broadcast(&snapshot->resumed);
	pthread_mutex_unlock(&snapshot->lock);
}

static void resume(struct machine *machine)
{
	machine->snapshot.request = NULL;
	for (unsigned i = 0; i < machine->options->vcpu_count; i++)
		vcpu_continue(&machine->vcpus[i]);
	set_stopped(machine, false);
}

/* On the loop's thread, while no vCPU is in the guest. */
static void all_parked(void *argument)
{
	struct machine *machine = argument;
	struct save_request *request = machine->snapshot.request;
	struct error err = {0};
	int failed;

	if (!request || machine->result->end)
		return;
	failed = save(machine, request, &err);
	if (failed < 0)
		log_line("not saved: %s", err.message);
	if (failed < 0 || !request->end) {
		for (unsigned i = 0; i < machine->options->vcpu_count; i++)
			vcpu_stood_still(&machine->vcpus[i]);
		resume(machine);
	} else {
		machine->snapshot.request = NULL;
		machine_end(machine, MACHINE_SAVED, 0, "saved");
	}
	request->done(request, failed < 0 ? err.code ? err.code : EIO : 0);
}

void snapshot_interrupted(void *owner)
{
	struct machine *machine = owner;
	struct snapshot *snapshot = &machine->snapshot;

	loop_lock(machine->loop);
	if (snapshot->stopped && ++snapshot->parked == machine->options->vcpu_count)
		loop_call(machine->loop, all_parked, machine);
	loop_unlock(machine->loop);
	pthread_mutex_lock(&snapshot->lock);
	while (snapshot->stopped)
		pthread_cond_wait(&snapshot->resumed, &snapshot->lock);
	pthread_mutex_unlock(&snapshot->lock);
}

static int begin_save(void *owner, struct save_request *request)
{
	struct machine *machine = owner;

	if (machine->snapshot.request || machine->result->end)
		return EBUSY;
	machine->snapshot.request = request;
	set_stopped(machine, true);
	for (unsigned i = 0; i < machine->options->vcpu_count; i++)
		vcpu_interrupt(&machine->vcpus[i]);
	return 0;
}

static void cancel_save(void *owner, struct save_request *request)
{
	struct machine *machine = owner;

	if (machine->snapshot.request == request)
		resume(machine);
}

void snapshot_serve(struct machine *machine)
{
	const struct control_saver saver = {.save = begin_save, .cancel = cancel_save, .machine = machine};

	pthread_mutex_init(&machine->snapshot.lock, NULL);
	pthread_cond_init(&machine->snapshot.resumed, NULL);
	control_on_save(machine->control, &saver);
}

/* --- restoring -------------------------------------------------------------------------------------------------------
 */

/* Read, not mapped: from here on nobody can change it. */
static int read_state(int fd, void **data, size_t *size, struct error *err)
{
	cleanup_free void *bytes = NULL;
	struct stat status;

	if (fstat(fd, &status) < 0)
		return error_set_errno(err, "stat");
	if (!S_ISREG(status.st_mode) || status.st_size > STATE_SIZE_MAX)
		return error_set(err, EINVAL, "not the state of a machine");
	if (status.st_uid != geteuid())
		return error_set(err, EPERM, "belongs to user %u, not to %u", status.st_uid, geteuid());
	*size = (size_t)status.st_size;
	bytes = malloc(*size + 1);
	if (!bytes)
		return error_set_errno(err, "read");
	if (pread(fd, bytes, *size, 0) != (ssize_t)*size)
		return error_set_errno(err, "read");
	*data = take_pointer(bytes);
	return 0;
}

static int restore_kinds(struct machine *machine, enum state_kind first, enum state_kind last, struct error *err)
{
	const struct state *state = &machine->snapshot.state;
	struct state_reader reader;

	for (size_t i = 0; i < PARTS; i++) {
		if (parts[i].kind < first || parts[i].kind > last)
			continue;
		if (state_count(state, parts[i].kind) != parts[i].count(machine))
			return error_set(err, EINVAL, "it has %u times `%s`, not %u", state_count(state, parts[i].kind),
					 parts[i].name, parts[i].count(machine));
		for (uint32_t index = 0; index < parts[i].count(machine); index++)
			if (state_find(state, parts[i].kind, index, &reader, err) < 0 ||
			    parts[i].restore(machine, index, &reader, err) < 0)
				return error_prefix(err, "%s %u", parts[i].name, index);
	}
	return 0;
}

int snapshot_load(struct machine *machine, struct error *err)
{
	struct snapshot *snapshot = &machine->snapshot;
	size_t size = 0;

	if (read_state(machine->options->state_fd, &snapshot->data, &size, err) < 0 ||
	    state_open(&snapshot->state, snapshot->data, size, err) < 0 ||
	    restore_kinds(machine, STATE_MACHINE, STATE_MEMORY, err) < 0)
		return error_prefix(err, "restore");
	return 0;
}

uint32_t snapshot_devices(const struct machine *machine)
{
	return state_count(&machine->snapshot.state, STATE_VIRTIO);
}

int snapshot_restore(struct machine *machine, struct error *err)
{
	if (restore_kinds(machine, STATE_CPUID, STATE_VCPU, err) < 0 ||
	    restore_kinds(machine, STATE_BUS, STATE_CONSOLE, err) < 0 ||
	    /* Last: from here on time passes for the guest. */
	    restore_kinds(machine, STATE_CLOCK, STATE_CLOCK, err) < 0)
		return error_prefix(err, "restore");
	free(take_pointer(machine->snapshot.data));
	return 0;
}

/*
 * The smallest proof that KVM works: a VM of one page in real mode adds two numbers, writes the sum to a port, halts.
 * Exit status 0 if the sum arrived and then the halt; a line on standard error otherwise.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define PAGE 4096
#define PORT 0x42

_Noreturn static void fail(const char *what)
{
	fprintf(stderr, "kvm_guest: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int checked(int result, const char *what)
{
	if (result < 0)
		fail(what);
	return result;
}

static void *map(size_t size, int flags, int fd)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (memory == MAP_FAILED)
		fail("mmap");
	return memory;
}

static void set_registers(int vcpu)
{
	struct kvm_regs regs = {.rip = PAGE, .rax = 2, .rbx = 40, .rflags = 2};
	struct kvm_sregs sregs;

	checked(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	checked(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	checked(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

int main(void)
{
	/* add al, bl; out PORT, al; hlt */
	static const unsigned char code[] = {0x00, 0xd8, 0xe6, PORT, 0xf4};
	int kvm = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "open `/dev/kvm`");
	int vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	void *memory = map(PAGE, MAP_SHARED | MAP_ANONYMOUS, -1);
	struct kvm_userspace_memory_region slot = {
	    .guest_phys_addr = PAGE,
	    .memory_size = PAGE,
	    .userspace_addr = (__u64)memory,
	};
	struct kvm_run *run;
	int vcpu;

	memcpy(memory, code, sizeof(code));
	checked(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
	vcpu = checked(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	run = map((size_t)checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE"), MAP_SHARED, vcpu);
	set_registers(vcpu);

	checked(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT ||
	    *((unsigned char *)run + run->io.data_offset) != 42) {
		fprintf(stderr, "kvm_guest: exit %u instead of the sum\n", run->exit_reason);
		return 1;
	}
	checked(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
	if (run->exit_reason != KVM_EXIT_HLT) {
		fprintf(stderr, "kvm_guest: exit %u instead of a halt\n", run->exit_reason);
		return 1;
	}
	return 0;
}

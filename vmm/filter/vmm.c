/*
 * What the threads of hull-vmm may call once a guest runs.
 */
#include <linux/kvm.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>

#include "common/filter.h"
#include "vmm/filter/rules.h"

enum { LOOP_THREAD, SAVING_THREAD, VCPU_THREAD };

#define SAVING (1u << SAVING_THREAD)
#define LOOP (1u << LOOP_THREAD | SAVING)
#define VCPU (1u << VCPU_THREAD)
#define BOTH (LOOP | VCPU)

static const struct filter_rule rules[] = {
    /* The first, since the hottest: a filter with conditions is walked at every call. */
    {SCMP_SYS(ioctl), VCPU, FILTER_EQUAL, 1, KVM_RUN, 0},

    /* Interrupts are sent from either thread; doorbells follow a BAR that a vCPU moves. */
    {SCMP_SYS(ioctl), BOTH, FILTER_EQUAL, 1, KVM_IOEVENTFD, 0},
    {SCMP_SYS(ioctl), BOTH, FILTER_EQUAL, 1, KVM_SIGNAL_MSI, 0},

    /* What vmm/x86_64/vcpu_state.c reads; nothing of it changes the machine, but for the word that it stood still. */
    {SCMP_SYS(ioctl), SAVING, FILTER_EQUAL, 1, KVM_GET_MP_STATE, 0},
    {SCMP_SYS(ioctl), SAVING, FILTER_EQUAL, 1, KVM_GET_REGS, 0},
    {SCMP_SYS(ioctl), SAVING, FILTER_EQUAL, 1, KVM_GET_SREGS, 0},
    {SCMP_SYS(ioctl), SAVING, FILTER_EQUAL, 1, KVM_GET_XSAVE, 0},
    {SCMP_SYS(ioctl), SAVING, FILTER_EQUAL, 1, KVM_GET_XCRS, 0},
    {SCMP_SYS(ioctl), SAVING, FILTER_EQUAL, 1, KVM_GET_DEBUGREGS, 0},
    {SCMP_SYS(ioctl), SAVING, FILTER_EQUAL, 1, KVM_GET_LAPIC, 0},
    {SCMP_SYS(ioctl), SAVING, FILTER_EQUAL, 1, KVM_GET_MSRS, 0},
    {SCMP_SYS(ioctl), SAVING, FILTER_EQUAL, 1, KVM_GET_VCPU_EVENTS, 0},
    {SCMP_SYS(ioctl), SAVING, FILTER_EQUAL, 1, KVM_GET_DEVICE_ATTR, 0},
    {SCMP_SYS(ioctl), SAVING, FILTER_EQUAL, 1, KVM_GET_TSC_KHZ, 0},
    {SCMP_SYS(ioctl), SAVING, FILTER_EQUAL, 1, KVM_GET_CLOCK, 0},
    {SCMP_SYS(ioctl), SAVING, FILTER_EQUAL, 1, KVM_KVMCLOCK_CTRL, 0},

    /* The window of a terminal. */
    {SCMP_SYS(ioctl), LOOP, FILTER_EQUAL, 1, TIOCGWINSZ, 0},

    /* The doorbells of a device that is added to the running machine. */
    {SCMP_SYS(eventfd2), LOOP, FILTER_ANY, 0, 0, 0},

    /* Bytes to and from descriptors that were handed over. On the vCPUs' threads for virtio-fs, the doorbell of which
     * they answer themselves (vmm/virtio/fs.c). */
    {SCMP_SYS(read), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(write), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(readv), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(writev), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(preadv), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(pwritev), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(preadv2), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(pwritev2), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(pread64), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(pwrite64), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(recvmsg), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(sendmsg), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(recvfrom), LOOP, FILTER_ANY, 0, 0, 0},
    /* Without an address: a socket that was handed over connected stays with its peer. */
    {SCMP_SYS(sendto), LOOP, FILTER_EQUAL, 4, 0, 0},
    {SCMP_SYS(accept4), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(shutdown), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(close), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(fstat), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(newfstatat), LOOP, FILTER_EQUAL, 3, 0x1000 /* AT_EMPTY_PATH: fstat as the C library calls it */, 0},
    {SCMP_SYS(fcntl), LOOP, FILTER_EQUAL, 1, 3 /* F_GETFL */, 0},
    {SCMP_SYS(fcntl), LOOP, FILTER_EQUAL, 1, 4 /* F_SETFL */, 0},
    {SCMP_SYS(fcntl), LOOP, FILTER_EQUAL, 1, 1 /* F_GETFD */, 0},
    {SCMP_SYS(fcntl), LOOP, FILTER_EQUAL, 1, 2 /* F_SETFD */, 0},

    /* Disks. */
    {SCMP_SYS(fdatasync), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(fsync), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(fallocate), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(io_uring_enter), LOOP, FILTER_ANY, 0, 0, 0},

    /* Waiting. */
    {SCMP_SYS(epoll_wait), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(epoll_pwait), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(epoll_pwait2), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(epoll_ctl), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(poll), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(ppoll), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(timerfd_settime), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(futex), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(sched_yield), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(restart_syscall), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(clock_gettime), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(clock_nanosleep), LOOP, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(getrandom), LOOP, FILTER_ANY, 0, 0, 0},

    /* Memory that can never be executed. */
    {SCMP_SYS(brk), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(mmap), BOTH, FILTER_MASKED, 2, 0, PROT_EXEC},
    {SCMP_SYS(mprotect), BOTH, FILTER_MASKED, 2, 0, PROT_EXEC},
    {SCMP_SYS(munmap), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(mremap), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(madvise), BOTH, FILTER_ANY, 0, 0, 0},

    /* The end, and signals between this process's own threads. */
    {SCMP_SYS(tgkill), BOTH, FILTER_EQUAL, 0, FILTER_OWN_PID, 0},
    {SCMP_SYS(getpid), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(gettid), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(rt_sigreturn), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(rt_sigprocmask), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(exit), BOTH, FILTER_ANY, 0, 0, 0},
    {SCMP_SYS(exit_group), BOTH, FILTER_ANY, 0, 0, 0},
};

static const char *const names[] = {
    [LOOP_THREAD] = "filter_loop", [SAVING_THREAD] = "filter_saving", [VCPU_THREAD] = "filter_vcpu", NULL};

const struct filter_set vmm_filters = {
    .program = "vmm", .names = names, .rules = rules, .n = sizeof(rules) / sizeof(rules[0])};

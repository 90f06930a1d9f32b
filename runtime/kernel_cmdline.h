// clang-format off
/*
 * The guest kernel's command line.
 *
 *   quiet earlyprintk=...    only what tells of an error is written, since each character costs two exits. The VMM keeps
 *                            the last of it, and with it why the kernel has panicked
 *   panic=-1 reboot=t,f      a panic ends the machine at once, by triple fault: there is no other way to reset it
 *   noreplace-smp            no second pass over the kernel's text for one CPU: those pages stay shared with the host's
 *   rcupdate.rcu_expedited=1 namespaces, mounts and cgroups are made without waiting for ticks
 *   pci=lastbus=0            there is one bus
 *   swiotlb=noforce          no bounce buffers: all of memory can be reached by the devices
 *   dummy.numdummies=0       no network interface dummy0 that nobody asked for
 *   retain_initrd            the initramfs stays where it is mapped: freeing it would write to pages that are shared
 *                            with the host's page cache (4.2 million instructions)
 *   dhash_entries=...        tables of names and inodes of 64 KiB and 32 KiB rather than 512 and 256: their entries lie
 *   ihash_entries=...        scattered, and each page that is touched is one that a machine forked from a template
 *                            has for itself
 *   percpu_alloc=page        no 2 MiB unit for the per-CPU variables, cleared at boot (4.8 million instructions)
 */
// clang-format on
#pragma once

/* One line, which tests/bench reads too. */
// clang-format off
#define KERNEL_CMDLINE "quiet panic=-1 reboot=t,f noreplace-smp rcupdate.rcu_expedited=1 pci=lastbus=0 swiotlb=noforce dummy.numdummies=0 retain_initrd percpu_alloc=page dhash_entries=8192 ihash_entries=4096 earlyprintk=serial,ttyS0,keep"
// clang-format on

/* When somebody wants all messages. In front: what is printed when the console is found depends on it. */
#define KERNEL_CMDLINE_CONSOLE "ignore_loglevel " KERNEL_CMDLINE

/*
 * What the emulated KVM host and the program that runs it say to each other, over four virtio-serial ports.
 *
 * control  supervise -> pid1: one struct job, then its strings. pid1 -> supervise: struct report.
 * output,  pid1 -> supervise: frames: a 32-bit length, then as many bytes. Length 0: end of the stream, nothing
 * follows. errors   Frames are there because a virtio-serial port has no end of file, and because the machine is
 * switched off only after everything has arrived. input    supervise -> pid1: frames likewise.
 *
 * Both ends are built from the same tree for the same architecture: structures travel as they are in memory.
 */
#ifndef MACHINE_WIRE_H
#define MACHINE_WIRE_H

#include <stdint.h>

#define WIRE_MAGIC 0x486d4a31u /* "HmJ1" */

/* Largest frame sent. 4 bytes of length and this together stay within the 32 KiB of one virtio-serial buffer. */
#define WIRE_FRAME_MAX (32 * 1024 - 4)

/* Numbers of the ports ("nr=" in QEMU's arguments): the device nodes are /dev/vport0p1 to /dev/vport0p4. */
enum wire_port { WIRE_CONTROL = 1, WIRE_OUTPUT, WIRE_ERRORS, WIRE_INPUT, WIRE_PORT_END };

/* Followed by `size` bytes of NUL-terminated strings: working directory, output directory (empty: none), then the
 * arguments and the environment. */
struct job {
	uint32_t magic;
	uint32_t size;
	uint32_t arguments;
	uint32_t variables;
	int64_t seconds; /* the caller's CLOCK_REALTIME */
	int64_t nanoseconds;
	uint8_t seed[64]; /* for the kernel's random generator */
};

enum report_kind {
	REPORT_READY = 1, /* the command is about to be started */
	REPORT_STATUS,	  /* value: its exit status, 128 + signal where a signal ended it */
	REPORT_FAILED,	  /* the machine could not be set up: text says why */
};

struct report {
	uint32_t kind;
	int32_t value;
	char text[248];
};

#endif

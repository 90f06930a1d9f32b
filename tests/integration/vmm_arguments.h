/*
 * The command line of hull-vmm and hull-fsd for test programs that start them without the runtime. Whatever goes wrong
 * ends the program.
 */
#pragma once

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGUMENTS_MAX 128

static char *arguments[ARGUMENTS_MAX]; /* NULL behind the last */
static int n_arguments;

static void add(const char *text)
{
	if (n_arguments == ARGUMENTS_MAX - 1)
		errx(125, "too many arguments");
	arguments[n_arguments++] = strdup(text);
	arguments[n_arguments] = NULL;
}

static void add_fd(const char *option, int fd, const char *rest)
{
	char text[64];

	if (fd < 0)
		err(125, "%s", option);
	snprintf(text, sizeof(text), "%d%s", fd, rest);
	add(option);
	add(text);
}

static void add_stream(int port, int fd, const char *direction)
{
	char text[64];

	snprintf(text, sizeof(text), "%d=%d,%s", port, fd, direction);
	add("--stream");
	add(text);
}

/* The program and all that no virtual machine can do without. */
static void begin_vmm(const char *vmm, const char *kernel, const char *initramfs, const char *command_line,
		      const char *memory)
{
	n_arguments = 0;
	add(vmm);
	add_fd("--kvm", open("/dev/kvm", O_RDWR), "");
	add_fd("--kernel", open(kernel, O_RDONLY), "");
	add_fd("--initramfs", open(initramfs, O_RDONLY), "");
	add_fd("--log", dup(2), "");
	add("--cmdline");
	add(command_line);
	add("--memory");
	add(memory);
	add("--vcpus");
	add("1");
	add("--uid");
	add("65534");
	add("--gid");
	add("65534");
}

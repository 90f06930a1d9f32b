/*
 * Whole reads and writes, and descriptors that travel over unix sockets.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

/* Read or write exactly size bytes, resuming after EINTR and short transfers. Return 0, or -1 with errno set;
 * a stream that ends early gives ENODATA. */
int read_exactly(int fd, void *data, size_t size);
int write_exactly(int fd, const void *data, size_t size);

/* Reads a whole file or stream into allocated, NUL-terminated memory that the caller frees. Fails with EFBIG when it
 * holds more than limit bytes. size may be NULL. Returns 0 or -1. */
int read_stream(int fd, size_t limit, char **data, size_t *size, struct error *err);
int read_file_at(int dir_fd, const char *path, size_t limit, char **data, size_t *size, struct error *err);

/* Writes a file under a temporary name beside it and renames it over path, so that a reader sees the old content or
 * the new, also after a crash. Leaves nothing behind on failure. */
int write_file_atomically_at(int dir_fd, const char *path, const void *data, size_t size, mode_t mode,
			     struct error *err);

#define IO_MAX_FDS 16

/* Sends one message with n_fds (0 to IO_MAX_FDS) descriptors attached; flags as for sendmsg, MSG_NOSIGNAL is added.
 * Returns the bytes sent or -1 with errno. */
ssize_t send_with_fds(int socket, const void *data, size_t size, const int *fds, size_t n_fds, int flags);

/* Receives one message with up to *n_fds descriptors (close-on-exec); *n_fds becomes how many came. More than that,
 * or a truncated message, gives -1 with EMSGSIZE and closes what came. Returns the bytes received, 0 at the end. */
ssize_t receive_with_fds(int socket, void *data, size_t size, int *fds, size_t *n_fds, int flags);

/* Sets or clears FD_CLOEXEC / O_NONBLOCK. Return 0 or -1 with errno. */
int set_cloexec(int fd, bool on);
int set_nonblocking(int fd, bool on);

/* Parses a whole decimal number in [min, max]; nothing may follow it. Returns 0 or -1. */
int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *value);

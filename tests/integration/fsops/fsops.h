/*
 * What the parts of fsops share: one line for each operation (main.c says more).
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

#define USER 1000
#define GROUP 1000

extern unsigned line_number;

/* Begins a numbered line; ends it with what came back. */
void start_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
void print_result(long result, int error);

/* A line with what lstat or fstat says, or the first 200 bytes of a file. */
void show(const char *path);
void show_fd(const char *what, int fd);
void show_content(const char *path);

long write_one_byte(const char *path);
void make_file(const char *path, const char *content, mode_t mode);

bool as_user(void); /* of AS_USER */

/* One operation: its text, its result. Evaluates to the result. */
#define OP(expression)                                                                                                 \
	({                                                                                                             \
		errno = 0;                                                                                             \
		long result_ = (long)(expression);                                                                     \
		int error_ = errno;                                                                                    \
		start_line("%s", #expression);                                                                         \
		print_result(result_, error_);                                                                         \
		putchar('\n');                                                                                         \
		result_;                                                                                               \
	})

/* The same for operations in a loop: the text says what differs. */
#define OP_AS(text, expression)                                                                                        \
	({                                                                                                             \
		errno = 0;                                                                                             \
		long result_ = (long)(expression);                                                                     \
		int error_ = errno;                                                                                    \
		start_line("%s", text);                                                                                \
		print_result(result_, error_);                                                                         \
		putchar('\n');                                                                                         \
		result_;                                                                                               \
	})

/* An operation that opens a file: the number of the descriptor says nothing. */
#define OPEN(expression)                                                                                               \
	({                                                                                                             \
		errno = 0;                                                                                             \
		int fd_ = (expression);                                                                                \
		int error_ = errno;                                                                                    \
		start_line("%s", #expression);                                                                         \
		print_result(fd_ < 0 ? -1 : 0, error_);                                                                \
		putchar('\n');                                                                                         \
		fd_;                                                                                                   \
	})

/* Runs the following block in a process of an ordinary user (group GROUP and 2000). */
#define AS_USER for (unsigned before_ = line_number; as_user(); fflush(stdout), _exit((int)(line_number - before_)))

/* One file of each kind. */
#define KINDS 8
extern const char *const kinds[KINDS];
int make_kind(unsigned kind, const char *path);
int remove_kind(const char *path);

/* The parts, in the order in which they are to run. */
void try_kinds(void);
void try_names(void);
void try_modes(void);
void try_times(void);
void try_data(void);
void try_attributes(void);
void try_directories(void);
void try_locks(void);

/*
 * As much of the D-Bus protocol (D-Bus Specification 1.0, "Message Protocol", "Type System", "Authentication Protocol")
 * as is needed to give systemd an order over its private socket: messages are built by hand, answers are looked at for
 * their kind and their leading strings. Blocking, with one time limit for each wait.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* --- building ---------------------------------------------------------------------------------------------------- */

#define DBUS_MESSAGE_MAX 65536

/* Little-endian, aligned from its beginning. What does not fit makes it `failed`, which sending reports. */
struct dbus_buffer {
	unsigned char data[DBUS_MESSAGE_MAX];
	size_t size;
	bool failed;
};

void dbus_align(struct dbus_buffer *buffer, size_t alignment);
void dbus_put_byte(struct dbus_buffer *buffer, uint8_t value);
void dbus_put_u32(struct dbus_buffer *buffer, uint32_t value);
void dbus_put_u64(struct dbus_buffer *buffer, uint64_t value);
void dbus_put_string(struct dbus_buffer *buffer, const char *text);    /* types s and o */
void dbus_put_signature(struct dbus_buffer *buffer, const char *text); /* type g */

/* An array: its elements (of that alignment) are put between the two. */
struct dbus_array {
	size_t length_at, start;
};
struct dbus_array dbus_open_array(struct dbus_buffer *buffer, size_t alignment);
void dbus_close_array(struct dbus_buffer *buffer, struct dbus_array array);

/* --- talking ----------------------------------------------------------------------------------------------------- */

/* Connects to a unix socket and authenticates as the present user. Returns a descriptor or -1. */
int dbus_connect(const char *path, struct error *err);

struct dbus_call {
	const char *path, *interface, *member;
	const char *signature; /* of the body */
	const struct dbus_buffer *body;
};

int dbus_send(int fd, uint32_t serial, const struct dbus_call *call, struct error *err);

enum dbus_kind { DBUS_CALL = 1, DBUS_RETURN = 2, DBUS_ERROR = 3, DBUS_SIGNAL = 4 };

#define DBUS_TEXTS 3

struct dbus_message {
	enum dbus_kind kind;
	uint32_t reply_to;	     /* serial of the call it answers */
	char member[64];	     /* of a signal */
	char error[128];	     /* the name of an error */
	char texts[DBUS_TEXTS][256]; /* the strings of its body, leading numbers left out; "" where there is none */
};

/* Receives one message; other kinds of content are skipped. ETIMEDOUT after timeout_ms. */
int dbus_receive(int fd, int timeout_ms, struct dbus_message *message, struct error *err);

/* Reads one whole message of `size` bytes. Returns 0, or -1 when it is malformed. */
int dbus_parse(const unsigned char *data, size_t size, struct dbus_message *message);

/* The size of a message whose first 16 bytes are given, or 0 when it is none or too large. */
size_t dbus_message_size(const unsigned char *head);

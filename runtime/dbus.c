#include "runtime/dbus.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"

#define HEAD_SIZE 16 /* bytes up to and with the length of the header's fields */
#define AUTHENTICATION_MS 5000

enum header_field {
	FIELD_PATH = 1,
	FIELD_INTERFACE = 2,
	FIELD_MEMBER = 3,
	FIELD_ERROR = 4,
	FIELD_REPLY_SERIAL = 5,
	FIELD_SIGNATURE = 8,
};

/* --- building ---------------------------------------------------------------------------------------------------- */

static void put(struct dbus_buffer *buffer, const void *data, size_t size)
{
	if (size > sizeof(buffer->data) - buffer->size) {
		buffer->failed = true;
		return;
	}
	memcpy(buffer->data + buffer->size, data, size);
	buffer->size += size;
}

void dbus_align(struct dbus_buffer *buffer, size_t alignment)
{
	static const char zeroes[8];

	put(buffer, zeroes, (alignment - buffer->size % alignment) % alignment);
}

void dbus_put_byte(struct dbus_buffer *buffer, uint8_t value)
{
	put(buffer, &value, 1);
}

void dbus_put_u32(struct dbus_buffer *buffer, uint32_t value)
{
	value = htole32(value);
	dbus_align(buffer, 4);
	put(buffer, &value, sizeof(value));
}

void dbus_put_u64(struct dbus_buffer *buffer, uint64_t value)
{
	value = htole64(value);
	dbus_align(buffer, 8);
	put(buffer, &value, sizeof(value));
}

void dbus_put_string(struct dbus_buffer *buffer, const char *text)
{
	dbus_put_u32(buffer, (uint32_t)strlen(text));
	put(buffer, text, strlen(text) + 1);
}

void dbus_put_signature(struct dbus_buffer *buffer, const char *text)
{
	dbus_put_byte(buffer, (uint8_t)strlen(text));
	put(buffer, text, strlen(text) + 1);
}

struct dbus_array dbus_open_array(struct dbus_buffer *buffer, size_t alignment)
{
	struct dbus_array array;

	dbus_put_u32(buffer, 0);
	array.length_at = buffer->size - sizeof(uint32_t);
	/* The length does not count the padding before the first element. */
	dbus_align(buffer, alignment);
	array.start = buffer->size;
	return array;
}

void dbus_close_array(struct dbus_buffer *buffer, struct dbus_array array)
{
	uint32_t length = htole32((uint32_t)(buffer->size - array.start));

	if (!buffer->failed)
		memcpy(buffer->data + array.length_at, &length, sizeof(length));
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

/* The only way to the bytes of a message; what is out of range makes it `failed` and reads as nothing. */
struct reader {
	const unsigned char *data;
	size_t size, at;
	bool failed;
};

static const unsigned char *take(struct reader *reader, size_t size)
{
	const unsigned char *found = reader->data + reader->at;

	if (reader->failed || size > reader->size - reader->at) {
		reader->failed = true;
		return NULL;
	}
	reader->at += size;
	return found;
}

static void skip_padding(struct reader *reader, size_t alignment)
{
	take(reader, (alignment - reader->at % alignment) % alignment);
}

static uint32_t get_u32(struct reader *reader)
{
	const unsigned char *bytes;
	uint32_t value;

	skip_padding(reader, 4);
	bytes = take(reader, sizeof(value));
	if (!bytes)
		return 0;
	memcpy(&value, bytes, sizeof(value));
	return le32toh(value);
}

/* Copies a string (or a signature, whose length is one byte) as far as there is room; text may be NULL. */
static void get_text(struct reader *reader, size_t length, char *text, size_t room)
{
	const unsigned char *bytes = length < reader->size ? take(reader, length + 1) : NULL;

	if (!bytes)
		reader->failed = true;
	else if (text)
		snprintf(text, room, "%.*s", (int)length, (const char *)bytes);
}

static void get_string(struct reader *reader, char *text, size_t room)
{
	size_t length = get_u32(reader);

	get_text(reader, length, text, room);
}

static void get_signature(struct reader *reader, char *text, size_t room)
{
	const unsigned char *length = take(reader, 1);

	if (length)
		get_text(reader, *length, text, room);
}

static void parse_field(struct reader *reader, struct dbus_message *message, char signature[256])
{
	const unsigned char *code;
	char type[256] = "";

	skip_padding(reader, 8);
	code = take(reader, 1);
	get_signature(reader, type, sizeof(type));
	if (reader->failed)
		return;
	if (strcmp(type, "u") == 0) {
		uint32_t value = get_u32(reader);

		if (*code == FIELD_REPLY_SERIAL)
			message->reply_to = value;
	} else if (strcmp(type, "g") == 0) {
		get_signature(reader, *code == FIELD_SIGNATURE ? signature : NULL, 256);
	} else if (strcmp(type, "s") == 0 || strcmp(type, "o") == 0) {
		char *text = *code == FIELD_MEMBER ? message->member : *code == FIELD_ERROR ? message->error : NULL;

		get_string(reader, text, *code == FIELD_MEMBER ? sizeof(message->member) : sizeof(message->error));
	} else {
		reader->failed = true;
	}
}

static void parse_body(struct reader *reader, const char *signature, struct dbus_message *message)
{
	size_t n = 0;

	for (; *signature && n < DBUS_TEXTS; signature++) {
		if (*signature == 'u')
			get_u32(reader);
		else if (*signature == 's' || *signature == 'o')
			get_string(reader, message->texts[n++], sizeof(message->texts[0]));
		else
			return;
	}
}

size_t dbus_message_size(const unsigned char *head)
{
	uint32_t body, fields;
	size_t size;

	memcpy(&body, head + 4, sizeof(body));
	memcpy(&fields, head + 12, sizeof(fields));
	body = le32toh(body);
	fields = le32toh(fields);
	if (head[0] != 'l' || head[3] != 1 || body > DBUS_MESSAGE_MAX || fields > DBUS_MESSAGE_MAX)
		return 0;
	size = (HEAD_SIZE + fields + 7) / 8 * 8 + body;
	return size > DBUS_MESSAGE_MAX ? 0 : size;
}

int dbus_parse(const unsigned char *data, size_t size, struct dbus_message *message)
{
	struct reader reader = {.data = data, .size = size};
	char signature[256] = "";
	size_t end;

	*message = (struct dbus_message){0};
	if (size < HEAD_SIZE || dbus_message_size(data) != size)
		return -1;
	message->kind = data[1];
	reader.at = HEAD_SIZE - sizeof(uint32_t);
	end = HEAD_SIZE + get_u32(&reader);
	while (!reader.failed && reader.at < end)
		parse_field(&reader, message, signature);
	skip_padding(&reader, 8);
	/* Numbers of a body count from its beginning, which is aligned. */
	if (!reader.failed)
		parse_body(&reader, signature, message);
	return reader.failed ? -1 : 0;
}

/* --- talking ----------------------------------------------------------------------------------------------------- */

static int receive_some(int fd, int64_t deadline, void *data, size_t size, size_t *got, struct error *err)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	int64_t left = deadline - now_ms();
	int ready = poll(&readable, 1, left > 0 ? (int)left : 0);
	ssize_t n;

	*got = 0;
	if (ready == 0)
		return error_set(err, ETIMEDOUT, "systemd does not answer");
	n = ready < 0 ? -1 : recv(fd, data, size, 0);
	if (n < 0 && errno != EINTR)
		return error_set_errno(err, "receive from systemd");
	if (n == 0)
		return error_set(err, ECONNRESET, "systemd ended the connection");
	*got = n > 0 ? (size_t)n : 0;
	return 0;
}

static int receive_all(int fd, int64_t deadline, unsigned char *data, size_t size, struct error *err)
{
	size_t got;

	for (size_t used = 0; used < size; used += got)
		if (receive_some(fd, deadline, data + used, size - used, &got, err) < 0)
			return -1;
	return 0;
}

static int send_all(int fd, const void *data, size_t size, struct error *err)
{
	const char *position = data;

	while (size > 0) {
		ssize_t n = send(fd, position, size, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return error_set_errno(err, "send to systemd");
		position += n > 0 ? n : 0;
		size -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* The user id goes as its decimal digits in hexadecimal. */
static int authenticate(int fd, struct error *err)
{
	char order[64] = "AUTH EXTERNAL ", answer[512], digits[16];
	size_t used = strlen(order), got;
	int64_t deadline = now_ms() + AUTHENTICATION_MS;

	snprintf(digits, sizeof(digits), "%u", geteuid());
	for (const char *digit = digits; *digit; digit++)
		used += (size_t)snprintf(order + used, sizeof(order) - used, "%02x", (unsigned)*digit);
	snprintf(order + used, sizeof(order) - used, "\r\n");
	if (send_all(fd, "", 1, err) < 0 || send_all(fd, order, strlen(order), err) < 0)
		return -1;
	for (used = 0; used < sizeof(answer) - 1; used += got) {
		if (receive_some(fd, deadline, answer + used, 1, &got, err) < 0)
			return -1;
		if (got && answer[used] == '\n')
			break;
	}
	if (strncmp(answer, "OK ", 3) != 0)
		return error_set(err, EACCES, "systemd does not let this user give orders");
	return send_all(fd, "BEGIN\r\n", 7, err);
}

int dbus_connect(const char *path, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return error_set_errno(err, "make a socket");
	if ((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >= sizeof(address.sun_path))
		return error_set(err, ENAMETOOLONG, "connect to systemd at `%s`", path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return error_set_errno(err, "connect to systemd at `%s`", path);
	return authenticate(fd, err) < 0 ? -1 : take_fd(&fd);
}

static void put_field(struct dbus_buffer *message, enum header_field code, const char *type, const char *text)
{
	dbus_align(message, 8);
	dbus_put_byte(message, (uint8_t)code);
	dbus_put_signature(message, type);
	if (*type == 'g')
		dbus_put_signature(message, text);
	else
		dbus_put_string(message, text);
}

int dbus_send(int fd, uint32_t serial, const struct dbus_call *call, struct error *err)
{
	struct dbus_buffer message = {.size = 0};
	struct dbus_array fields;

	dbus_put_byte(&message, 'l');
	dbus_put_byte(&message, DBUS_CALL);
	dbus_put_byte(&message, 0);
	dbus_put_byte(&message, 1);
	dbus_put_u32(&message, (uint32_t)call->body->size);
	dbus_put_u32(&message, serial);
	fields = dbus_open_array(&message, 8);
	put_field(&message, FIELD_PATH, "o", call->path);
	put_field(&message, FIELD_INTERFACE, "s", call->interface);
	put_field(&message, FIELD_MEMBER, "s", call->member);
	put_field(&message, FIELD_SIGNATURE, "g", call->signature);
	dbus_close_array(&message, fields);
	dbus_align(&message, 8);
	put(&message, call->body->data, call->body->size);
	if (message.failed || call->body->failed)
		return error_set(err, EMSGSIZE, "an order to systemd is too long");
	return send_all(fd, message.data, message.size, err);
}

int dbus_receive(int fd, int timeout_ms, struct dbus_message *message, struct error *err)
{
	int64_t deadline = now_ms() + timeout_ms;
	unsigned char data[DBUS_MESSAGE_MAX];
	size_t size;

	if (receive_all(fd, deadline, data, HEAD_SIZE, err) < 0)
		return -1;
	size = dbus_message_size(data);
	if (size < HEAD_SIZE)
		return error_set(err, EPROTO, "systemd sent a message that is none");
	if (receive_all(fd, deadline, data + HEAD_SIZE, size - HEAD_SIZE, err) < 0)
		return -1;
	if (dbus_parse(data, size, message) < 0)
		return error_set(err, EPROTO, "systemd sent a message that cannot be read");
	return 0;
}

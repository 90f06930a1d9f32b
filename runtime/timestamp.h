/*
 * Points in time as text, RFC 3339, UTC. The C library's functions would read the host's time zone for that.
 */
#pragma once

#include <time.h>

#define TIMESTAMP_SIZE 64

/* "2026-11-23T20:47:22Z" */
void timestamp_seconds(time_t when, char text[TIMESTAMP_SIZE]);

/* "2026-11-23T20:47:22.123456789Z" */
void timestamp_nanoseconds(const struct timespec *when, char text[TIMESTAMP_SIZE]);

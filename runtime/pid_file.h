/*
 * --pid-file: the decimal number of a process, without a newline.
 */
#pragma once

#include <sys/types.h>

#include "common/error.h"

int pid_file_write(const char *path, pid_t pid, struct error *err);

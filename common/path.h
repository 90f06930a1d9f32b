/*
 * Paths as text.
 */
#pragma once

/* A copy of path that is absolute and without ".", ".." and doubled slashes, by its text alone; ".." never leads above
 * the root. The caller frees it; NULL when memory is short. */
char *path_clean(const char *path);

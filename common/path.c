#include "common/path.h"

#include <stdlib.h>
#include <string.h>

char *path_clean(const char *path)
{
	char *clean = malloc(strlen(path) + 2);
	char *end = clean; /* of the clean part, which has no slash at its end */

	if (!clean)
		return NULL;
	while (*path) {
		size_t length = strcspn(path, "/");

		if (length == 2 && path[0] == '.' && path[1] == '.') {
			while (end > clean && *--end != '/')
				;
		} else if (length > 0 && !(length == 1 && path[0] == '.')) {
			*end++ = '/';
			memcpy(end, path, length);
			end += length;
		}
		path += length;
		path += *path == '/';
	}
	if (end == clean)
		*end++ = '/';
	*end = '\0';
	return clean;
}

#include "common/words.h"

#include <string.h>

int word_value(const struct word *words, const char *text, uint32_t *value)
{
	for (; text && words->text; words++) {
		if (strcmp(words->text, text) == 0) {
			*value = words->value;
			return 0;
		}
	}
	return -1;
}

bool is_one_of(const char *const *words, const char *text)
{
	for (; *words; words++)
		if (strcmp(*words, text) == 0)
			return true;
	return false;
}

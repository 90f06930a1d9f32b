#include "runtime/matching.h"

#include <errno.h>
#include <regex.h>
#include <stdlib.h>

#include "runtime/container.h"
#include "runtime/report.h"

static int compile(const char *pattern, regex_t *regex, struct error *err)
{
	char reason[128];
	int code = regcomp(regex, pattern, REG_EXTENDED | REG_NOSUB);

	if (code == 0)
		return 0;
	regerror(code, regex, reason, sizeof(reason));
	return error_set(err, EINVAL, "invalid regular expression `%s`: %s", pattern, reason);
}

int matching_each(const char *root, const char *pattern, matching_act *act, void *context, struct error *err)
{
	regex_t regex;
	char **ids;
	size_t n;
	int result;

	if (compile(pattern, &regex, err) < 0)
		return -1;
	result = container_list(root, &ids, &n, err);
	for (size_t i = 0; i < n; i++) {
		struct error problem;

		if (result == 0 && regexec(&regex, ids[i], 0, NULL, 0) == 0 && act(ids[i], context, &problem) < 0)
			report_warning("container %s: %s", ids[i], problem.message);
		free(ids[i]);
	}
	free(ids);
	regfree(&regex);
	return result;
}

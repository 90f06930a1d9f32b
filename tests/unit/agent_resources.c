/* linux.resources as the lines that are written to a cgroup's files, and the writing itself to a directory of files. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/spec_fields.h"
#include "guest-agent/resources.h"

/* All lines as one text: "file=value;". */
static int lines(const char *text, char *result, size_t room, struct error *err)
{
	json_t *json = spec_parse(text, strlen(text), err);
	struct resources resources;
	size_t used = 0;
	int status;

	assert_non_null(json);
	status = resources_read(json, &resources, err);
	json_decref(json);
	*result = '\0';
	for (size_t i = 0; i < resources.n && status == 0; i++)
		used += (size_t)snprintf(result + used, room - used, "%s=%s;", resources.list[i].file,
					 resources.list[i].value);
	resources_release(&resources);
	return status;
}

static void expect(const char *text, const char *wanted)
{
	struct error err = {0};
	char result[1024];

	if (lines(text, result, sizeof(result), &err) < 0)
		fail_msg("%s: %s", text, err.message);
	assert_string_equal(result, wanted);
}

static void expect_error(const char *text, const char *message)
{
	struct error err = {0};
	char result[1024];

	assert_int_equal(lines(text, result, sizeof(result), &err), -1);
	assert_string_equal(err.message, message);
}

static void test_memory(void **state)
{
	(void)state;
	expect("{}", "");
	expect("{\"memory\":{}}", "");
	expect("{\"memory\":{\"limit\":0,\"swap\":0,\"reservation\":0}}", "");
	expect("{\"memory\":{\"limit\":67108864,\"swap\":134217728}}", "memory.swap.max=67108864;memory.max=67108864;");
	expect("{\"memory\":{\"limit\":1000,\"swap\":1000}}", "memory.swap.max=0;memory.max=1000;");
	expect("{\"memory\":{\"limit\":-1}}", "memory.swap.max=max;memory.max=max;");
	expect("{\"memory\":{\"limit\":5,\"swap\":-1,\"reservation\":3}}",
	       "memory.swap.max=max;memory.max=5;memory.low=3;");
	expect("{\"memory\":{\"swappiness\":60,\"kernel\":5,\"kernelTCP\":5,\"disableOOMKiller\":true}}", "");
	expect_error("{\"memory\":{\"swap\":5}}",
		     "linux.resources.memory.swap: unable to set swap limit without memory limit");
	expect_error("{\"memory\":{\"limit\":-1,\"swap\":5}}",
		     "linux.resources.memory.swap: unable to set swap limit without memory limit");
	expect_error("{\"memory\":{\"limit\":6,\"swap\":5}}",
		     "linux.resources.memory.swap: memory+swap limit should be >= memory limit");
	expect_error("{\"memory\":{\"limit\":-6,\"swap\":5}}",
		     "linux.resources.memory.limit: invalid memory value: -6");
}

static void test_cpu(void **state)
{
	(void)state;
	expect("{\"cpu\":{\"shares\":0}}", "");
	expect("{\"cpu\":{\"shares\":2}}", "cpu.weight=1;");
	expect("{\"cpu\":{\"shares\":1024}}", "cpu.weight=39;");
	expect("{\"cpu\":{\"shares\":262144}}", "cpu.weight=10000;");
	expect("{\"cpu\":{\"shares\":1}}", "cpu.weight=1;");
	expect("{\"cpu\":{\"quota\":50000,\"period\":100000}}", "cpu.max=50000 100000;");
	expect("{\"cpu\":{\"quota\":50000}}", "cpu.max=50000 100000;");
	expect("{\"cpu\":{\"quota\":-1}}", "cpu.max=max 100000;");
	expect("{\"cpu\":{\"period\":20000}}", "cpu.max=max 20000;");
	expect("{\"cpu\":{\"quota\":0,\"period\":0}}", "");
	expect("{\"cpu\":{\"quota\":50000,\"burst\":10000,\"idle\":1,\"cpus\":\"0-3\",\"mems\":\"0\"}}",
	       "cpu.idle=1;cpu.max=50000 100000;cpu.max.burst=10000;");
	expect("{\"cpu\":{\"burst\":0,\"idle\":0,\"realtimeRuntime\":5,\"realtimePeriod\":5}}",
	       "cpu.idle=0;cpu.max.burst=0;");
}

static void test_others(void **state)
{
	(void)state;
	expect("{\"pids\":{\"limit\":0}}", "");
	expect("{\"pids\":{\"limit\":-1}}", "pids.max=max;");
	expect("{\"pids\":{\"limit\":10},\"blockIO\":{\"weight\":500,\"leafWeight\":3}}",
	       "pids.max=10;io.bfq.weight=500;");
	expect("{\"blockIO\":{\"weight\":0,\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":1}]}}", "");
	expect("{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":0},{\"pageSize\":\"1GB\",\"limit\":1073741824}]}",
	       "hugetlb.2MB.max=0;hugetlb.1GB.max=1073741824;");
	expect_error("{\"hugepageLimits\":[{\"limit\":0}]}",
		     "linux.resources.hugepageLimits[0].pageSize must be a size like 2MB");
	expect_error("{\"hugepageLimits\":[{\"pageSize\":\"../x\",\"limit\":0}]}",
		     "linux.resources.hugepageLimits[0].pageSize must be a size like 2MB");
	expect_error("{\"blockIO\":{\"weight\":70000}}",
		     "linux.resources.blockIO.weight must be a number from 10 to 1000");
}

static void test_unified(void **state)
{
	(void)state;
	expect("{\"pids\":{\"limit\":10},\"unified\":{\"pids.max\":\"7\",\"memory.high\":\"\"}}",
	       "pids.max=10;pids.max=7;memory.high=;");
	expect_error("{\"unified\":{\"../pids.max\":\"7\"}}",
		     "unified resource \"../pids.max\" must be a file name (no slashes)");
	/* The host's. */
	expect("{\"unified\":{\"cpuset.cpus\":\"7\",\"io.max\":\"8:0 rbps=1\",\"cpu.max\":\"max "
	       "100000\",\"io.weight\":\"50\"}}",
	       "cpu.max=max 100000;io.weight=50;");
}

static void make_file(int directory, const char *name, const char *content)
{
	int fd = openat(directory, name, O_CREAT | O_WRONLY | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), strlen(content));
	close(fd);
}

static void expect_applied(int directory, const char *text, const char *message)
{
	struct error err = {0};
	json_t *json = spec_parse(text, strlen(text), &err);
	struct resources resources;
	int status;

	assert_int_equal(resources_read(json, &resources, &err), 0);
	status = resources_apply(directory, &resources, &err);
	if (message) {
		assert_int_equal(status, -1);
		assert_string_equal(err.message, message);
	} else if (status < 0) {
		fail_msg("%s: %s", text, err.message);
	}
	resources_release(&resources);
	json_decref(json);
}

static void test_apply(void **state)
{
	char path[] = "/tmp/agent_resources.XXXXXX";
	static const char *const names[] = {"pids.max", "memory.max", "memory.current", "cgroup.controllers"};
	char content[16] = {0};
	int directory, fd;

	(void)state;
	assert_non_null(mkdtemp(path));
	directory = open(path, O_RDONLY | O_DIRECTORY);
	make_file(directory, "pids.max", "");
	make_file(directory, "memory.max", "");
	make_file(directory, "memory.current", "4096\n");
	make_file(directory, "cgroup.controllers", "cpu memory pids\n");
	expect_applied(directory, "{\"pids\":{\"limit\":12}}", NULL);
	fd = openat(directory, "pids.max", O_RDONLY);
	assert_int_equal(read(fd, content, sizeof(content)), 2);
	assert_string_equal(content, "12");
	close(fd);
	expect_applied(directory, "{\"memory\":{\"limit\":4096,\"checkBeforeUpdate\":true}}", NULL);
	expect_applied(directory, "{\"memory\":{\"limit\":4095,\"checkBeforeUpdate\":true}}",
		       "unable to set memory limit to 4095 (current usage: 4096)");
	expect_applied(directory, "{\"cpu\":{\"shares\":1024}}",
		       "linux.resources: failed to write \"39\" to cpu.weight: No such file or directory");
	expect_applied(directory, "{\"unified\":{\"memory.other\":\"1\"}}",
		       "linux.resources: unable to set unified resource \"memory.other\": No such file or directory");
	expect_applied(
	    directory, "{\"unified\":{\"misc.max\":\"1\"}}",
	    "linux.resources: unified resource \"misc.max\" can't be set: controller \"misc\" not available");
	expect_applied(directory, "{\"unified\":{\"nonsense\":\"1\"}}",
		       "linux.resources: unified resource \"nonsense\" must be in the form CONTROLLER.PARAMETER");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlinkat(directory, names[i], 0);
	close(directory);
	rmdir(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_memory),  cmocka_unit_test(test_cpu),	  cmocka_unit_test(test_others),
	    cmocka_unit_test(test_unified), cmocka_unit_test(test_apply),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * config.json, good and bad, and what is opened because of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/exports.h"
#include "runtime/relay.h"
#include "runtime/spec.h"
#include "runtime/vm_size.h"

#define GOOD                                                                                                           \
	"{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"rootfs\"},"                                                    \
	"\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0}}"

static int parse(const char *text, struct spec *spec, struct error *err)
{
	return spec_take_text(strdup(text), strlen(text), spec, err);
}

static void expect_good(const char *text)
{
	struct error err = {0};
	struct spec spec;

	if (parse(text, &spec, &err) < 0)
		fail_msg("%s: %s", text, err.message);
	assert_string_equal(spec.text, text);
	spec_release(&spec);
}

/* The message must begin with the file's name and hold what. */
static void expect_bad(const char *text, const char *what)
{
	struct error err = {0};
	struct spec spec;

	if (parse(text, &spec, &err) == 0)
		fail_msg("%s was accepted", text);
	if (strncmp(err.message, "config.json: ", 13) != 0 || !strstr(err.message, what))
		fail_msg("%s: \"%s\" does not name \"%s\"", text, err.message, what);
	assert_null(spec.json);
	assert_null(spec.text);
}

static void test_good(void **state)
{
	(void)state;
	expect_good(GOOD "}");
	expect_good(GOOD ",\"unknown\":{\"x\":1}}");
	expect_good(GOOD ",\"mounts\":null,\"annotations\":{\"a\":\"b\"}}");
}

static void test_not_json(void **state)
{
	static const char *const texts[] = {
	    "", "{", "[]", "5", "null", "{\"ociVersion\":", "\xff\xfe", "{} x", "{\"a\":1e999}"};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		expect_bad(texts[i], "");
}

static void test_truncated(void **state)
{
	static const char whole[] =
	    GOOD ",\"mounts\":[{\"destination\":\"/x\",\"type\":\"tmpfs\",\"options\":[\"ro\"]}]}";
	char part[sizeof(whole)];

	(void)state;
	expect_good(whole);
	for (size_t length = 0; length + 1 < strlen(whole); length++) {
		memcpy(part, whole, length);
		part[length] = '\0';
		expect_bad(part, "");
	}
}

static void test_missing(void **state)
{
	(void)state;
	expect_bad("{}", "ociVersion");
	expect_bad("{\"ociVersion\":5}", "ociVersion");
	expect_bad("{\"ociVersion\":\"2.0.0\"}", "2.0.0");
	expect_bad("{\"ociVersion\":\"1\"}", "ociVersion");
	expect_bad("{\"ociVersion\":\"1.0.2\"}", "process");
	expect_bad("{\"ociVersion\":\"1.0.2\",\"process\":{}}", "process.args");
	expect_bad("{\"ociVersion\":\"1.0.2\",\"process\":{\"args\":[]}}", "process.args");
	expect_bad("{\"ociVersion\":\"1.0.2\",\"process\":{\"args\":[\"\"],\"cwd\":\"/\"}}", "process.args[0]");
	expect_bad("{\"ociVersion\":\"1.0.2\",\"process\":{\"args\":[null],\"cwd\":\"/\"}}", "process.args[0]");
	expect_bad("{\"ociVersion\":\"1.0.2\",\"process\":{\"args\":[\"x\"],\"cwd\":\"tmp\"}}", "process.cwd");
	expect_bad("{\"ociVersion\":\"1.0.2\",\"process\":{\"args\":[\"x\"],\"cwd\":\"/\"}}", "root.path");
}

static void test_wrong_types(void **state)
{
	(void)state;
	expect_bad(GOOD ",\"mounts\":{}}", "mounts");
	expect_bad(GOOD ",\"mounts\":[{}]}", "mounts[0].destination");
	expect_bad(GOOD ",\"mounts\":[{\"destination\":7}]}", "mounts[0].destination");
	expect_bad(GOOD ",\"mounts\":[{\"destination\":\"/x\",\"options\":[null]}]}", "mounts[0].options[0]");
	expect_bad(GOOD ",\"mounts\":[{\"destination\":\"/x\",\"options\":\"ro\"}]}", "mounts[0].options");
	expect_bad(GOOD ",\"annotations\":{\"a\":5}}", "annotations.a");
	expect_bad(GOOD ",\"hostname\":[]}", "hostname");
	expect_bad(GOOD ",\"linux\":\"\"}", "linux");
}

static void test_refused(void **state)
{
	(void)state;
	expect_bad(GOOD ",\"vm\":{\"a\":1}}", "vm");
	expect_bad("{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"r\"},"
		   "\"process\":{\"terminal\":1,\"args\":[\"sh\"],\"cwd\":\"/\"}}",
		   "process.terminal");
}

static void test_nesting(void **state)
{
	char text[4096] = GOOD ",\"x\":";
	size_t used = strlen(text);

	(void)state;
	memset(text + used, '[', sizeof(text) - used - 1);
	expect_bad(text, "");
}

static void test_large_numbers(void **state)
{
	(void)state;
	expect_good(
	    "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"rootfs\"},\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\","
	    "\"rlimits\":[{\"type\":\"RLIMIT_CORE\",\"hard\":18446744073709551615,\"soft\":0}]}}");
	expect_bad("{\"ociVersion\":\"1.0.2\",\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\",\"user\":{\"uid\":-1}}}",
		   "process.user.uid");
}

static void expect_size(const char *annotations, int result, uint64_t memory, unsigned vcpus)
{
	struct config config = config_defaults();
	struct limits limits = {0};
	struct vm_size size;
	struct error err;
	struct spec spec;
	char text[1024];

	snprintf(text, sizeof(text), GOOD ",\"annotations\":{%s}}", annotations);
	assert_int_equal(parse(text, &spec, &err), 0);
	assert_int_equal(vm_size_from_spec(&spec, &limits, &config, &size, &err), result);
	spec_release(&spec);
	if (result < 0) {
		assert_non_null(strstr(err.message, "annotation hull."));
		return;
	}
	assert_int_equal(size.memory, memory);
	assert_int_equal(size.vcpus, vcpus);
}

static void test_vm_size(void **state)
{
	(void)state;
	expect_size("", 0, VM_MEMORY_DEFAULT, VM_VCPUS_DEFAULT);
	expect_size("\"hull.memory\":\"1G\",\"hull.vcpus\":\"4\"", 0, 1ull << 30, 4);
	expect_size("\"hull.memory\":\"1M\"", -1, 0, 0);
	expect_size("\"hull.memory\":\"2000G\"", -1, 0, 0);
	expect_size("\"hull.memory\":\"lots\"", -1, 0, 0);
	expect_size("\"hull.vcpus\":\"0\"", -1, 0, 0);
	expect_size("\"hull.vcpus\":\"65\"", -1, 0, 0);
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static char folder[] = "/tmp/runtime_spec.XXXXXX";
static int bundle;

static int make_bundle(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	bundle = open(folder, O_RDONLY | O_DIRECTORY);
	return mkdirat(bundle, "rootfs", 0755) | mkdirat(bundle, "data", 0755) | mkfifoat(bundle, "fifo", 0600) |
	       close(openat(bundle, "file", O_CREAT | O_WRONLY, 0600));
}

static int remove_bundle(void **state)
{
	char command[128];

	(void)state;
	close(bundle);
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static void write_config(const char *text, size_t size)
{
	int fd = openat(bundle, "config.json", O_CREAT | O_TRUNC | O_WRONLY, 0600);

	assert_int_equal(write(fd, text, size), size);
	close(fd);
}

static void test_load(void **state)
{
	struct error err;
	struct spec spec;
	char *large;

	(void)state;
	assert_int_equal(spec_load(bundle, NULL, &spec, &err), -1);
	assert_string_equal(err.message, "JSON specification file config.json not found");
	write_config(GOOD "}", strlen(GOOD "}"));
	assert_int_equal(spec_load(bundle, NULL, &spec, &err), 0);
	assert_string_equal(spec_root_path(&spec), "rootfs");
	spec_release(&spec);
	write_config("", 0);
	assert_int_equal(spec_load(bundle, NULL, &spec, &err), -1);
	large = malloc(SPEC_SIZE_MAX + 2);
	memset(large, ' ', SPEC_SIZE_MAX + 2);
	write_config(large, SPEC_SIZE_MAX + 2);
	free(large);
	assert_int_equal(spec_load(bundle, NULL, &spec, &err), -1);
	assert_string_equal(err.message, "config.json: larger than 4194304 bytes");
	unlinkat(bundle, "config.json", 0);
	mkdirat(bundle, "config.json", 0700);
	assert_int_equal(spec_load(bundle, NULL, &spec, &err), -1);
	assert_string_equal(err.message, "config.json is not a regular file");
	unlinkat(bundle, "config.json", AT_REMOVEDIR);
	mkfifoat(bundle, "config.json", 0700);
	assert_int_equal(spec_load(bundle, NULL, &spec, &err), -1);
	unlinkat(bundle, "config.json", 0);
}

static int open_exports(const char *mounts, struct exports *exports, struct error *err)
{
	char text[2048];
	struct spec spec;
	int result;

	snprintf(text, sizeof(text), GOOD ",\"mounts\":[%s]}", mounts);
	assert_int_equal(parse(text, &spec, err), 0);
	result = exports_open(&spec, bundle, exports, err);
	spec_release(&spec);
	return result;
}

static void test_exports(void **state)
{
	struct exports exports;
	struct error err;
	char expected[64];

	(void)state;
	assert_int_equal(
	    open_exports("{\"destination\":\"/t\",\"type\":\"tmpfs\",\"source\":\"x\"},"
			 "{\"destination\":\"/d\",\"source\":\"data\",\"options\":[\"rbind\",\"ro\"]},"
			 "{\"destination\":\"/f\",\"type\":\"bind\",\"source\":\"file\",\"options\":[\"ro\",\"rw\"]}",
			 &exports, &err),
	    0);
	assert_int_equal(exports.n, 3);
	snprintf(expected, sizeof(expected), "%s/rootfs", folder);
	assert_string_equal(exports.rootfs, expected);
	assert_string_equal(exports.list[0].name, "rootfs");
	assert_string_equal(exports.list[1].name, "m1");
	assert_true(exports.list[1].read_only && exports.list[1].recursive);
	assert_string_equal(exports.list[2].name, "m2");
	assert_false(exports.list[2].read_only || exports.list[2].recursive);
	exports_release(&exports);
}

static void expect_export_error(const char *source, const char *what)
{
	struct exports exports;
	struct error err;
	char mount[256];

	snprintf(mount, sizeof(mount), "{\"destination\":\"/d\",\"type\":\"bind\",\"source\":\"%s\"}", source);
	assert_int_equal(open_exports(mount, &exports, &err), -1);
	if (!strstr(err.message, what) || !strstr(err.message, "mounts[0].source"))
		fail_msg("%s", err.message);
	assert_null(exports.list);
}

/* A socket is no export: it is relayed. */
static void test_sockets(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct exports exports;
	struct error err;

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", folder);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(chmod(address.sun_path, 0640), 0);
	close(fd);
	assert_int_equal(
	    open_exports("{\"destination\":\"/s\",\"type\":\"bind\",\"source\":\"socket\"}", &exports, &err), 0);
	assert_int_equal(exports.n, 2);
	assert_true(exports.list[1].is_socket && relay_needed(&exports));
	assert_int_equal(exports.list[1].mode, 0640);
	exports.n = 1;
	assert_false(relay_needed(&exports));
	exports.n = 2;
	exports_release(&exports);
}

static void test_bad_exports(void **state)
{
	(void)state;
	expect_export_error("nosuch", "No such file");
	expect_export_error("", "must have one");
	expect_export_error("fifo", "is a fifo");
	expect_export_error("/dev/null", "is a character device");
	expect_export_error("file/below", "Not a directory");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good),    cmocka_unit_test(test_not_json),	  cmocka_unit_test(test_truncated),
	    cmocka_unit_test(test_missing), cmocka_unit_test(test_wrong_types),	  cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_nesting), cmocka_unit_test(test_large_numbers), cmocka_unit_test(test_vm_size),
	    cmocka_unit_test(test_load),    cmocka_unit_test(test_exports),	  cmocka_unit_test(test_bad_exports),
	    cmocka_unit_test(test_sockets),
	};

	return cmocka_run_group_tests(tests, make_bundle, remove_bundle);
}

/* The parts of the spec that have files of their own: sysctl, devices, schedule, hooks. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#include "guest-agent/devices.h"
#include "guest-agent/hooks.h"
#include "guest-agent/id_maps.h"
#include "guest-agent/schedule.h"
#include "guest-agent/sysctl.h"
#include "guest-agent/time_offsets.h"

static json_t *parse(const char *text)
{
	json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);

	assert_non_null(json);
	return json;
}

/* --- sysctl ------------------------------------------------------------------------------------------------------ */

static void expect_sysctl(const char *name, struct sysctl_scope scope, const char *path, const char *message)
{
	json_t *json = json_pack("{s:s}", name, "1");
	struct sysctls sysctls;
	struct error err = {0};
	int status = sysctls_read(json, scope, &sysctls, &err);

	if (path) {
		if (status < 0)
			fail_msg("%s: %s", name, err.message);
		assert_int_equal(sysctls.n, 1);
		assert_string_equal(sysctls.list[0].path, path);
		assert_string_equal(sysctls.list[0].value, "1");
	} else {
		assert_int_equal(status, -1);
		assert_string_equal(err.message, message);
	}
	sysctls_release(&sysctls);
	json_decref(json);
}

static void test_sysctl(void **state)
{
	const struct sysctl_scope all = {true, true, true}, none = {false, false, false};

	(void)state;
	expect_sysctl("net.ipv4.ip_forward", all, "net/ipv4/ip_forward", NULL);
	expect_sysctl("net/ipv4/conf/eno2.100/rp_filter", all, "net/ipv4/conf/eno2.100/rp_filter", NULL);
	expect_sysctl("net.ipv4.conf.eno2/100.rp_filter", all, "net/ipv4/conf/eno2.100/rp_filter", NULL);
	expect_sysctl("kernel.msgmax", all, "kernel/msgmax", NULL);
	expect_sysctl("kernel.shm_rmid_forced", all, "kernel/shm_rmid_forced", NULL);
	expect_sysctl("fs.mqueue.msg_max", all, "fs/mqueue/msg_max", NULL);
	expect_sysctl("kernel.domainname", all, "kernel/domainname", NULL);
	expect_sysctl("net.ipv4.ip_forward", none, NULL,
		      "linux.sysctl: sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace");
	expect_sysctl("kernel.sem", none, NULL,
		      "linux.sysctl: sysctl \"kernel.sem\" is not allowed in the hosts ipc namespace");
	expect_sysctl("kernel.domainname", none, NULL,
		      "linux.sysctl: sysctl \"kernel.domainname\" is not in a separate kernel namespace");
	expect_sysctl(
	    "kernel.hostname", all, NULL,
	    "linux.sysctl: sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field");
	expect_sysctl("vm.overcommit_memory", all, NULL,
		      "linux.sysctl: sysctl \"vm.overcommit_memory\" is not in a separate kernel namespace");
	expect_sysctl("net/../kernel/panic", all, NULL,
		      "linux.sysctl: sysctl \"net/../kernel/panic\" is not a parameter's name");
	expect_sysctl("net..ipv4", all, NULL, "linux.sysctl: sysctl \"net..ipv4\" is not a parameter's name");
	expect_sysctl("", all, NULL, "linux.sysctl: sysctl \"\" is not a parameter's name");
}

/* --- devices ----------------------------------------------------------------------------------------------------- */

static void test_devices(void **state)
{
	json_t *json = parse(
	    "[{\"path\":\"/dev//null\",\"type\":\"c\",\"major\":1,\"minor\":3},"
	    "{\"path\":\"/dev/zero\",\"type\":\"b\",\"major\":8,\"minor\":300,\"fileMode\":25008,\"uid\":5,\"gid\":6},"
	    "{\"path\":\"/x/pipe\",\"type\":\"p\"},{\"path\":\"/dev/"
	    "u\",\"type\":\"u\",\"major\":4095,\"minor\":1048575}]");
	struct devices devices;
	struct error err;

	(void)state;
	assert_int_equal(devices_read(json, &devices, &err), 0);
	/* /dev/zero is the spec's; by its text /dev//null is not /dev/null */
	assert_int_equal(devices.n, 5 + 4);
	assert_true(devices_named(json, "/dev/zero"));
	assert_false(devices_named(json, "/dev/null"));
	assert_string_equal(devices.list[5].path, "/dev/null");
	assert_int_equal(devices.list[6].mode, S_IFBLK | 0660);
	assert_int_equal(devices.list[6].number, makedev(8, 300));
	assert_int_equal(devices.list[6].uid, 5);
	assert_int_equal(devices.list[6].gid, 6);
	assert_int_equal(devices.list[7].mode, S_IFIFO | 0666);
	assert_int_equal(devices.list[8].mode, S_IFCHR | 0666);
	devices_release(&devices);
	json_decref(json);
	assert_int_equal(devices_read(NULL, &devices, &err), 0);
	assert_int_equal(devices.n, 6);
	devices_release(&devices);
}

static void expect_device_error(const char *text, const char *message)
{
	json_t *json = parse(text);
	struct devices devices;
	struct error err;

	assert_int_equal(devices_read(json, &devices, &err), -1);
	assert_string_equal(err.message, message);
	devices_release(&devices);
	json_decref(json);
}

static void test_device_errors(void **state)
{
	(void)state;
	expect_device_error("[{\"path\":\"/x\",\"type\":\"q\"}]", "linux.devices[0].type: invalid device type \"q\"");
	expect_device_error("[{\"type\":\"c\"}]", "linux.devices[0].path must not be empty");
	expect_device_error("[{\"path\":\"/x\",\"type\":\"c\",\"major\":4096}]",
			    "linux.devices[0]: no such device number");
	expect_device_error("[{\"path\":\"/x\",\"type\":\"c\",\"minor\":-1}]",
			    "linux.devices[0]: no such device number");
	expect_device_error("[3]", "linux.devices[0] must be an object");
}

/* --- schedule ---------------------------------------------------------------------------------------------------- */

static int read_schedule(const char *text, struct schedule *schedule, struct error *err)
{
	json_t *json = parse(text);
	int status = schedule_read(json, schedule, err);

	json_decref(json);
	return status;
}

static void expect_schedule_error(const char *text, const char *message)
{
	struct schedule schedule;
	struct error err;

	assert_int_equal(read_schedule(text, &schedule, &err), -1);
	assert_string_equal(err.message, message);
}

static void test_schedule(void **state)
{
	struct schedule schedule;
	struct error err;

	(void)state;
	assert_int_equal(read_schedule("{}", &schedule, &err), 0);
	assert_false(schedule.has_attributes || schedule.has_io_priority);
	assert_int_equal(schedule_apply(&schedule, 0, &err), 0);
	assert_int_equal(
	    read_schedule(
		"{\"scheduler\":{\"policy\":\"SCHED_BATCH\",\"nice\":5,\"flags\":[\"SCHED_FLAG_RESET_ON_FORK\"]},"
		"\"ioPriority\":{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":7}}",
		&schedule, &err),
	    0);
	assert_int_equal(schedule.attributes.policy, 3);
	assert_int_equal(schedule.attributes.nice, 5);
	assert_int_equal(schedule.attributes.flags, 1);
	assert_int_equal(schedule.attributes.size, 48);
	assert_int_equal(schedule.io_priority, 2 << 13 | 7);
	expect_schedule_error("{\"scheduler\":{\"policy\":\"SCHED_BEST\"}}",
			      "process.scheduler.policy: invalid scheduler policy SCHED_BEST");
	expect_schedule_error("{\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"priority\":5}}",
			      "process.scheduler.priority can only be specified for SCHED_FIFO or SCHED_RR policy");
	expect_schedule_error("{\"scheduler\":{\"policy\":\"SCHED_RR\"}}",
			      "process.scheduler.priority must be from 1 to 99");
	expect_schedule_error("{\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"nice\":20}}",
			      "process.scheduler.nice must be from -20 to 19");
	expect_schedule_error(
	    "{\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"runtime\":1}}",
	    "process.scheduler runtime, deadline and period can only be specified for SCHED_DEADLINE policy");
	expect_schedule_error("{\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"flags\":[\"X\"]}}",
			      "process.scheduler.flags[0]: invalid scheduler flag X");
	expect_schedule_error("{\"ioPriority\":{\"class\":\"NONE\"}}", "process.ioPriority.class: invalid class NONE");
	expect_schedule_error("{\"ioPriority\":{\"class\":\"IOPRIO_CLASS_RT\",\"priority\":8}}",
			      "process.ioPriority.priority must be from 0 to 7");
}

static void expect_affinity(const char *list, int count, int member)
{
	json_t *json = json_pack("{s:{s:s}}", "execCPUAffinity", "final", list);
	cpu_set_t set;
	struct error err;
	bool given;

	if (count < 0) {
		assert_int_equal(schedule_read_affinity(json, "final", &set, &given, &err), -1);
	} else {
		assert_int_equal(schedule_read_affinity(json, "final", &set, &given, &err), 0);
		assert_true(given);
		assert_int_equal(CPU_COUNT(&set), count);
		assert_true(CPU_ISSET(member, &set));
	}
	assert_int_equal(schedule_read_affinity(json, "initial", &set, &given, &err), 0);
	assert_false(given);
	json_decref(json);
}

static void test_affinity(void **state)
{
	(void)state;
	expect_affinity("0", 1, 0);
	expect_affinity("0-3,7", 5, 7);
	expect_affinity("1023", 1, 1023);
	expect_affinity("1024", -1, 0);
	expect_affinity("3-1", -1, 0);
	expect_affinity("1,", -1, 0);
	expect_affinity("-1", -1, 0);
	expect_affinity("1--2", -1, 0);
	expect_affinity("a", -1, 0);
}

static int read_personality(const char *text, unsigned long *persona, bool *given, struct error *err)
{
	json_t *json = parse(text);
	int status = schedule_read_personality(json, persona, given, err);

	json_decref(json);
	return status;
}

static void test_personality(void **state)
{
	unsigned long persona;
	struct error err;
	bool given;

	(void)state;
	assert_int_equal(schedule_read_personality(NULL, &persona, &given, &err), 0);
	assert_false(given);
	assert_int_equal(read_personality("{\"domain\":\"LINUX32\"}", &persona, &given, &err), 0);
	assert_true(given);
	assert_int_equal(persona, PER_LINUX32);
	assert_int_equal(read_personality("{\"domain\":\"LINUX\"}", &persona, &given, &err), 0);
	assert_int_equal(persona, PER_LINUX);
	assert_int_equal(read_personality("{\"domain\":\"BSD\"}", &persona, &given, &err), -1);
	assert_string_equal(err.message, "linux.personality.domain: invalid personality domain BSD");
	assert_int_equal(read_personality("{\"domain\":\"LINUX\",\"flags\":[\"X\"]}", &persona, &given, &err), -1);
}

/* --- id maps, time ----------------------------------------------------------------------------------------------- */

static void test_id_maps(void **state)
{
	json_t *json = parse("{\"uidMappings\":[{\"containerID\":0,\"hostID\":100000,\"size\":1000},"
			     "{\"containerID\":5000,\"hostID\":7,\"size\":1}],"
			     "\"gidMappings\":[{\"containerID\":0,\"hostID\":0,\"size\":4294967295}]}");
	struct id_maps maps, copy;
	struct error err;
	uint32_t id;

	(void)state;
	assert_int_equal(id_maps_read(json, false, &maps, &err), 0);
	assert_int_equal(id_map_outside(&maps.users, 0, &id), 0);
	assert_int_equal(id, 100000);
	assert_int_equal(id_map_outside(&maps.users, 999, &id), 0);
	assert_int_equal(id, 100999);
	assert_int_equal(id_map_outside(&maps.users, 1000, &id), -1);
	assert_int_equal(id_map_outside(&maps.users, 5000, &id), 0);
	assert_int_equal(id, 7);
	assert_int_equal(id_map_outside(&maps.groups, 70000, &id), 0);
	assert_int_equal(id, 70000);
	assert_int_equal(id_maps_copy(&maps, &copy), 0);
	assert_true(id_maps_equal(&maps, &copy));
	copy.users.list[1].outside = 8;
	assert_false(id_maps_equal(&maps, &copy));
	id_maps_release(&copy);
	id_maps_release(&maps);
	json_decref(json);
}

static void expect_map_error(const char *text, const char *message)
{
	json_t *json = parse(text);
	struct id_maps maps;
	struct error err;

	assert_int_equal(id_maps_read(json, false, &maps, &err), -1);
	assert_string_equal(err.message, message);
	id_maps_release(&maps);
	json_decref(json);
}

static void test_id_map_errors(void **state)
{
	(void)state;
	expect_map_error("{}", "user namespaces enabled, but no uid mappings found");
	expect_map_error("{\"uidMappings\":[{\"containerID\":0,\"hostID\":1,\"size\":1}]}",
			 "user namespaces enabled, but no gid mappings found");
	expect_map_error("{\"uidMappings\":[{\"containerID\":1,\"hostID\":1,\"size\":1}]}",
			 "user namespaces enabled, but no uid mapping found for root");
	expect_map_error("{\"uidMappings\":[{\"containerID\":0,\"hostID\":1,\"size\":0}]}",
			 "linux.uidMappings[0].size must not be 0");
	expect_map_error("{\"gidMappings\":[{\"containerID\":0,\"hostID\":4294967000,\"size\":1000}]}",
			 "linux.gidMappings[0] goes beyond the last id");
}

static void expect_offsets(const char *text, bool own, const char *message)
{
	json_t *json = parse(text);
	struct time_offsets offsets;
	struct error err;
	int status = time_offsets_read(json, own, &offsets, &err);

	if (message) {
		assert_int_equal(status, -1);
		assert_string_equal(err.message, message);
	} else {
		assert_int_equal(status, 0);
		assert_true(offsets.monotonic.given);
		assert_int_equal(offsets.monotonic.seconds, -5);
		assert_int_equal(offsets.monotonic.nanoseconds, 7);
		assert_false(offsets.boottime.given);
	}
	json_decref(json);
}

static void test_time_offsets(void **state)
{
	(void)state;
	expect_offsets("{\"monotonic\":{\"secs\":-5,\"nanosecs\":7}}", true, NULL);
	expect_offsets(
	    "{\"monotonic\":{\"secs\":-5}}", false,
	    "linux.timeOffsets: time namespace offsets specified, but time namespace isn't enabled in the config");
	expect_offsets("{\"realtime\":{\"secs\":-5}}", true,
		       "linux.timeOffsets: there is no clock \"realtime\" with an offset");
	expect_offsets("{\"boottime\":{\"nanosecs\":1000000000}}", true,
		       "linux.timeOffsets.boottime.nanosecs must be less than a second");
}

/* --- hooks ------------------------------------------------------------------------------------------------------- */

static int run_hooks(const char *text, struct error *err)
{
	json_t *json = parse(text), *annotations = parse("{\"a\":\"b\"}");
	struct hooks hooks;
	int status = hooks_read(json, "c1", "/bundle", annotations, &hooks, err);

	if (status == 0)
		status = hooks_open(&hooks, err);
	if (status == 0)
		status = hooks_run(&hooks, err);
	hooks_release(&hooks);
	json_decref(annotations);
	json_decref(json);
	return status;
}

static void expect_hooks(const char *text, const char *message)
{
	struct error err = {0};
	int status = run_hooks(text, &err);

	if (message) {
		assert_int_equal(status, -1);
		assert_string_equal(err.message, message);
	} else if (status < 0) {
		fail_msg("%s: %s", text, err.message);
	}
}

#define SH(script) "{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"" script "\"]}"

static void test_hooks(void **state)
{
	sigset_t child;

	(void)state;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	expect_hooks("[]", NULL);
	expect_hooks("[" SH("exit 0") "," SH("test $# = 0") "]", NULL);
	/* each finds the whole state */
	expect_hooks("[" SH("read x; read x; true") "," SH("cat >&2; exit 3") "]",
		     "error running hook #1: error running hook: exit status 3, output: "
		     "{\"ociVersion\":\"1.0.2\",\"id\":\"c1\","
		     "\"status\":\"created\",\"pid\":1,\"bundle\":\"/bundle\",\"annotations\":{\"a\":\"b\"}}");
	expect_hooks("[" SH("echo one; echo two; exit 1") "]",
		     "error running hook #0: error running hook: exit status 1, output: one two");
	expect_hooks("[" SH("kill -SYS $$") "]",
		     "error running hook #0: error running hook: signal: bad system call, output: ");
	expect_hooks("[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"test \\\"$A$HOME\\\" = 1\"],\"env\":[\"A=1\"]}]",
		     NULL);
	expect_hooks("[{\"path\":\"/bin/sleep\",\"args\":[\"sleep\",\"100\"],\"timeout\":1}]",
		     "error running hook #0: hook ran past specified timeout of 1.0s");
	expect_hooks("[{\"path\":\"/bin/sleep\",\"args\":[\"sleep\",\"0.1\"],\"timeout\":30}]", NULL);
	expect_hooks(
	    "[{\"path\":\"/no/such\"}]",
	    "error running hook #0: error running hook: exit status 127, output: fork/exec /no/such: No such file or "
	    "directory");
	expect_hooks("[{\"path\":\"true\"}]", "hooks.startContainer[0].path must be an absolute path");
	expect_hooks("[{\"path\":\"/bin/true\",\"timeout\":0}]",
		     "hooks.startContainer[0].timeout must be from 1 to 86400 seconds");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sysctl),	 cmocka_unit_test(test_devices),  cmocka_unit_test(test_device_errors),
	    cmocka_unit_test(test_schedule),	 cmocka_unit_test(test_affinity), cmocka_unit_test(test_personality),
	    cmocka_unit_test(test_hooks),	 cmocka_unit_test(test_id_maps),  cmocka_unit_test(test_id_map_errors),
	    cmocka_unit_test(test_time_offsets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

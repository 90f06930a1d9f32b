# hull: builds the programs, the guest kernel and the initramfs. `make help` lists the targets.
#
# Each program is all C files below its folder plus common/. Parts are made into one archive each, so that unit tests and
# fuzz targets link the same objects (built again with sanitizers).

SHELL := /bin/bash
CC := gcc
CLANG ?= clang
BUILD ?= build
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=
VERSION := $(shell cat VERSION)

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Werror
BASE_FLAGS := -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DHULL_VERSION='"$(VERSION)"' -DHULL_SYSCONFDIR='"$(SYSCONFDIR)"' -I. -I$(BUILD)/gen -g $(WARNINGS) -MMD -MP
CFLAGS ?= -O2
HARDENING := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
LINK_STATIC := -static-pie -Wl,-z,relro,-z,now -Wl,--gc-sections -ffunction-sections -fdata-sections

sources = $(sort $(foreach d,$(1),$(wildcard $(d)/*.c)))
SOURCES_common := $(call sources,common)
SOURCES_vmm := $(call sources,vmm vmm/virtio vmm/x86_64)
SOURCES_fsd := $(call sources,vmm/fsd)
SOURCES_agent := $(call sources,guest-agent)
SOURCES_runtime := $(call sources,runtime runtime/cmd)
PARTS := common vmm fsd agent runtime

LIBS_vmm := -lcap -luring
LIBS_fsd := -lcap
LIBS_agent := -ljansson
LIBS_runtime := -ljansson -lseccomp -lcap
LIBS_common := -ljansson

MAIN_vmm := hull-vmm
MAIN_fsd := hull-fsd
MAIN_agent := hull-agent
MAIN_runtime := hull
PROGRAMS := $(BUILD)/bin/hull $(BUILD)/bin/hull-vmm $(BUILD)/bin/hull-fsd $(BUILD)/bin/hull-agent

.PHONY: all programs unit-tests fuzz-targets test-programs demo check check-long install lint format fuzz bench clean help deps
.DELETE_ON_ERROR:
.SECONDARY:

help:
	@echo 'make demo     set up, build, run a real container in a micro-VM and show it'
	@echo 'make check    set up, build, run all tests; the last line is "N passed, N failed"'
	@echo 'make check-long  the tests that take long: 1 GiB streams, Debian at work, kill -9 everywhere, 250 containers'
	@echo 'make all      build the programs, the guest kernel and the initramfs (into $(BUILD)/)'
	@echo 'make install  install below DESTDIR, PREFIX ($(PREFIX))'
	@echo 'make lint     clang-format, clang-tidy and cppcheck'
	@echo 'make format   lay out the sources with clang-format'
	@echo 'make fuzz     fuzz every parser of untrusted bytes, FUZZ_SECONDS each (default 600)'
	@echo 'make bench    start-up time, memory and file work beside runc, crun and QEMU'
	@echo 'make clean    remove $(BUILD)/ (the cached guest kernel stays)'
	@echo 'make deps     install the Debian packages of packages.txt (demo and check do it)'

all: programs $(BUILD)/share/hull/vmlinux $(BUILD)/share/hull/initramfs

programs: $(PROGRAMS)

# --- programs --------------------------------------------------------------------------------------------------------

objects = $(patsubst %.c,$(BUILD)/$(1)/%.o,$(2))

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(BASE_FLAGS) $(CFLAGS) $(HARDENING) -ffunction-sections -fdata-sections -c $< -o $@

define part_rules
$(BUILD)/obj/lib$(1).a: $(call objects,obj,$(filter-out %/main.c,$(SOURCES_$(1))))
	@rm -f $$@
	ar rcs $$@ $$^
$(BUILD)/san/lib$(1).a: $(call objects,san,$(filter-out %/main.c,$(SOURCES_$(1))))
	@rm -f $$@
	ar rcs $$@ $$^
$(BUILD)/fuzz/lib$(1).a: $(call objects,fuzz,$(filter-out %/main.c,$(SOURCES_$(1))))
	@rm -f $$@
	ar rcs $$@ $$^
endef
$(foreach part,$(PARTS),$(eval $(call part_rules,$(part))))

define program_rules
$(BUILD)/bin/$(MAIN_$(1)): $(call objects,obj,$(filter %/main.c,$(SOURCES_$(1)))) $(BUILD)/obj/lib$(1).a $(BUILD)/obj/libcommon.a
	@mkdir -p $$(@D)
	$(CC) $(CFLAGS) $(LINK_STATIC) $$^ $(LIBS_$(1)) -o $$@
endef
$(foreach part,vmm fsd agent runtime,$(eval $(call program_rules,$(part))))

# The jails' system call filters, compiled at build time: what includes them needs them first.
$(BUILD)/bin/mkfilters: $(wildcard vmm/filter/*.c vmm/filter/*.h) common/filter.h
	@mkdir -p $(@D)
	$(CC) $(filter-out -MMD -MP,$(BASE_FLAGS)) $(CFLAGS) $(HARDENING) -pie $(filter %.c,$^) -lseccomp -o $@

$(BUILD)/gen/%_filters.h: $(BUILD)/bin/mkfilters
	@mkdir -p $(@D)
	$< $* > $@

$(foreach kind,obj san fuzz,$(BUILD)/$(kind)/vmm/jail.o): $(BUILD)/gen/vmm_filters.h
$(foreach kind,obj san fuzz,$(BUILD)/$(kind)/vmm/fsd/jail.o): $(BUILD)/gen/fsd_filters.h

# --- guest -----------------------------------------------------------------------------------------------------------

$(BUILD)/bin/mkinitramfs: $(wildcard rootfs/*.c)
	@mkdir -p $(@D)
	$(CC) $(filter-out -MMD -MP,$(BASE_FLAGS)) $(CFLAGS) $(HARDENING) -pie $^ -larchive -o $@

# Debug symbols would only fill the guest's memory.
$(BUILD)/share/hull/initramfs: $(BUILD)/bin/hull-agent $(BUILD)/bin/mkinitramfs
	@mkdir -p $(@D)
	strip -o $(BUILD)/hull-agent.stripped $<
	$(BUILD)/bin/mkinitramfs $(BUILD)/hull-agent.stripped $@

$(BUILD)/share/hull/vmlinux: $(wildcard kernel/*)
	@mkdir -p $(@D)
	kernel/build $@

# --- tests -----------------------------------------------------------------------------------------------------------

SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
UNIT_SOURCES := $(wildcard tests/unit/*.c)
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(UNIT_SOURCES))
FUZZ_SOURCES := $(wildcard tests/fuzz/*.c)
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/fuzz/%,$(FUZZ_SOURCES))
# tests/unit/PART_NAME.c and tests/fuzz/PART_NAME.c are linked with the archive of PART.
part_of = $(firstword $(subst _, ,$(notdir $(1))))

$(BUILD)/san/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(BASE_FLAGS) -O1 $(SANITIZE) -c $< -o $@

$(BUILD)/fuzz/%.o: %.c
	@mkdir -p $(@D)
	$(CLANG) $(BASE_FLAGS) -Wno-missing-field-initializers -O1 $(SANITIZE) -fsanitize=fuzzer-no-link -c $< -o $@

.SECONDEXPANSION:
$(BUILD)/tests/unit/%: $(BUILD)/san/tests/unit/%.o $(BUILD)/san/lib$$(call part_of,$$*).a $(BUILD)/san/libcommon.a
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) $^ $(LIBS_$(call part_of,$*)) -lcmocka -o $@

$(BUILD)/tests/fuzz/%: $(BUILD)/fuzz/tests/fuzz/%.o $(BUILD)/fuzz/lib$$(call part_of,$$*).a $(BUILD)/fuzz/libcommon.a
	@mkdir -p $(@D)
	$(CLANG) $(SANITIZE) -fsanitize=fuzzer $^ $(LIBS_$(call part_of,$*)) -o $@

unit-tests: $(UNIT_TESTS)
fuzz-targets: $(FUZZ_TARGETS)

test-programs: $(BUILD)/tests/musl_program $(BUILD)/tests/fsops $(patsubst tests/integration/%.c,$(BUILD)/tests/%,$(wildcard tests/integration/*.c))

$(BUILD)/tests/musl_program: tests/integration/musl/program.c
	@mkdir -p $(@D)
	musl-gcc -O2 -Wall -Wextra -Werror $< -o $@

# Programs that run inside containers of the tests: static, so that they run in any root file system.
$(BUILD)/tests/fsops: $(wildcard tests/integration/fsops/*.[ch])
	@mkdir -p $(@D)
	$(CC) $(filter-out -MMD -MP,$(BASE_FLAGS)) $(CFLAGS) -static $(filter %.c,$^) -o $@

$(BUILD)/tests/%: tests/integration/%.c
	@mkdir -p $(@D)
	$(CC) $(filter-out -MMD -MP,$(BASE_FLAGS)) $(CFLAGS) -static $< -o $@

# --- what people call ------------------------------------------------------------------------------------------------

deps:
	tests/deps.sh

# The packages have to be there before the rest is looked at, hence the second make.
demo: deps
	$(MAKE) --no-print-directory -j2 all
	tests/demo.sh

check: deps
	$(MAKE) --no-print-directory -j2 all unit-tests fuzz-targets test-programs
	BUILD=$(BUILD) tests/check.sh

check-long: deps
	$(MAKE) --no-print-directory -j2 all test-programs
	BUILD=$(BUILD) tests/check.sh long

fuzz: deps
	$(MAKE) --no-print-directory -j2 fuzz-targets
	BUILD=$(BUILD) FUZZ_SECONDS=$${FUZZ_SECONDS:-600} tests/check.sh fuzz

bench: deps
	$(MAKE) --no-print-directory -j2 all
	tests/bench/run.sh
	tests/bench/files.sh

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/hull $(DESTDIR)$(PREFIX)/share/hull \
		$(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -s -m 755 $(BUILD)/bin/hull $(DESTDIR)$(PREFIX)/bin/
	install -s -m 755 $(BUILD)/bin/hull-vmm $(BUILD)/bin/hull-fsd $(DESTDIR)$(PREFIX)/libexec/hull/
	install -m 644 $(BUILD)/share/hull/vmlinux $(BUILD)/share/hull/initramfs $(DESTDIR)$(PREFIX)/share/hull/
	install -m 644 $(wildcard runtime/man/*.8) $(DESTDIR)$(PREFIX)/share/man/man8/
	$(BUILD)/bin/hull completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/hull

ALL_C := $(shell find common vmm guest-agent runtime rootfs tests -name '*.c')
ALL_H := $(shell find common vmm guest-agent runtime rootfs tests -name '*.h')
LINT_C := $(filter-out tests/%,$(ALL_C))

format:
	clang-format -i $(ALL_C) $(ALL_H)

lint:
	clang-format --dry-run --Werror $(ALL_C) $(ALL_H)
	$(MAKE) --no-print-directory $(BUILD)/gen/vmm_filters.h $(BUILD)/gen/fsd_filters.h
	printf '%s\n' $(LINT_C) | xargs -P 2 -I{} clang-tidy --quiet {} -- $(filter-out -MMD -MP -Werror -g,$(BASE_FLAGS))
	cppcheck --quiet --error-exitcode=1 --inline-suppr --enable=warning,portability,performance --std=c11 \
		--suppress=missingIncludeSystem -D_GNU_SOURCE '-DHULL_VERSION="0"' -I. $(LINT_C)

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD)/obj $(BUILD)/san $(BUILD)/fuzz -type f -name '*.d' 2>/dev/null)

# sluice: `make run` builds and runs, `make test` builds and tests everything. The targets are listed by `make help`.
#   SAN=asan|tsan   sanitizer build in build-SAN/ (the sandbox is off there, and only there)
#   WERROR=1        warnings are errors (CI)          V=1  prints the commands
.DEFAULT_GOAL := all
CC      ?= gcc
CLANG   ?= clang-14
SAN     ?=
V       ?= 0
PREFIX  ?= /usr
DESTDIR ?=
UNITDIR ?=
FUZZ_SECONDS ?= 10
SEEDS   ?= 5000
B := build$(if $(SAN),-$(SAN))
Q := $(if $(filter 1,$(V)),,@)

RELEASE := 0.1
VERSION := $(RELEASE)$(addprefix -g,$(shell git describe --match='' --always --abbrev=10 --dirty 2>/dev/null))
# the same sources give the same bytes, whatever directory they are in
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH := $(SOURCE_DATE_EPOCH)
BASE  := -std=c17 -D_GNU_SOURCE -I. -pthread -g -ffile-prefix-map=$(CURDIR)=.
WARN  := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wformat=2 -Wvla -Wcast-qual -Wundef $(if $(WERROR),-Werror)
HARD_gcc := -fstack-clash-protection -fcf-protection=full -ftrivial-auto-var-init=zero -fzero-call-used-regs=used-gpr
HARD_clang := -fstack-clash-protection -fcf-protection=full
KIND  := $(if $(findstring clang,$(CC)),clang,gcc)
HARD  := -fstack-protector-strong -fno-strict-overflow -fPIE $(HARD_$(KIND))
LINK  := -pie -Wl,--build-id=sha1,-z,relro,-z,now,-z,noexecstack,-z,defs,--as-needed
ifeq ($(SAN),)
OPT   := -O2 -D_FORTIFY_SOURCE=2 $(HARD)
else
SANS_asan := address,undefined
SANS_tsan := thread
OPT   := -O1 -fno-omit-frame-pointer -fsanitize=$(SANS_$(SAN)) -fno-sanitize-recover=undefined -DSLUICE_NO_SANDBOX -fPIE
LINK  += -fsanitize=$(SANS_$(SAN))
endif
ALLC  = $(BASE) $(WARN) $(OPT) $(CPPFLAGS) $(CFLAGS)

# Every .c of a folder belongs to its program; main.c of each is kept out of the archive that tests link with.
src = $(sort $(foreach d,$(1),$(wildcard $(d)/*.c)))
WORKER_DIRS := worker worker/loop worker/crypto worker/codec worker/match worker/stream worker/stat worker/sniff worker/dns worker/rule \
	worker/outbound worker/group worker/provider worker/core worker/inbound worker/tun
COMMON_SRC     := $(call src,common)
SUPERVISOR_SRC := $(call src,supervisor)
HELPER_SRC     := $(call src,supervisor/helper)
WORKER_SRC     := $(call src,$(WORKER_DIRS))
LOADER_SRC     := $(call src,worker/loader)
CONTROLLER_SRC := $(call src,controller controller/api)
obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
lib = $(call obj,$(filter-out %/main.c,$(1)))

LIBS_common     := -lev -lseccomp
LIBS_supervisor := -lev
LIBS_helper     := -lev -lseccomp
LIBS_worker     := -lev -lseccomp -lssl -lcrypto -lpcre2-8 -lnghttp2
LIBS_loader     := -lev -lseccomp -lyaml -lcjson -lzstd
LIBS_controller := -lev -lseccomp -lssl -lcrypto -lcjson -lcivetweb -lwslay
PROGRAMS := $(B)/sluice $(B)/libexec/sluice-worker $(B)/libexec/sluice-loader $(B)/libexec/sluice-controller \
	$(B)/libexec/sluice-nethelper

all: $(PROGRAMS)

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(ALLC) -MMD -MP -c $< -o $@
# rebuilt when the version moves: the stamp changes only then
$(B)/version.stamp: FORCE
	@mkdir -p $(@D)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@
$(B)/obj/common/version.o: $(B)/version.stamp
$(B)/obj/common/version.o: CPPFLAGS += -DSLUICE_BUILD='"$(VERSION)"'
FORCE:

$(B)/lib%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)ar rcs $@ $^
$(B)/libcommon.a: $(call lib,$(COMMON_SRC))
$(B)/libsupervisor.a: $(call lib,$(SUPERVISOR_SRC))
$(B)/libhelper.a: $(call lib,$(HELPER_SRC))
$(B)/libworker.a: $(call lib,$(WORKER_SRC))
$(B)/libloader.a: $(call lib,$(LOADER_SRC))
$(B)/libcontroller.a: $(call lib,$(CONTROLLER_SRC))

define link
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ALLC) $(LINK) $(LDFLAGS) -o $@
endef
# Whole archives of the own program (registries and interposers must not be left out); common is linked as needed.
$(B)/sluice: $(call obj,$(SUPERVISOR_SRC)) $(B)/libcommon.a
	$(link) $(filter %.o,$^) $(B)/libcommon.a $(LIBS_supervisor)
$(B)/libexec/sluice-worker: $(call obj,$(WORKER_SRC)) $(B)/libcommon.a
	$(link) $(filter %.o,$^) $(B)/libcommon.a $(LIBS_worker)
$(B)/libexec/sluice-loader: $(call obj,$(LOADER_SRC)) $(B)/libcommon.a
	$(link) $(filter %.o,$^) $(B)/libcommon.a $(LIBS_loader)
$(B)/libexec/sluice-controller: $(call obj,$(CONTROLLER_SRC)) $(B)/libcommon.a
	$(link) $(filter %.o,$^) $(B)/libcommon.a $(LIBS_controller)
$(B)/libexec/sluice-nethelper: $(call obj,$(HELPER_SRC)) $(B)/libcommon.a
	$(link) $(filter %.o,$^) $(B)/libcommon.a $(LIBS_helper)

# ---- tests: tests/unit/test_X.c is one cmocka binary; test_ctl_* links the controller, test_sup_* the supervisor,
# test_net_* the nethelper, the rest worker and loader
# tests/sim/test_sim_X.c: the same with a clock and a network of its own
UNIT_SRC := $(wildcard tests/unit/test_*.c) $(wildcard tests/sim/test_sim_*.c)
UNIT := $(patsubst %.c,$(B)/unit/%,$(notdir $(UNIT_SRC)))
$(B)/unit/test_sim_%: $(B)/obj/tests/sim/test_sim_%.o $(B)/libworker.a $(B)/libloader.a $(B)/libcommon.a
	$(link) $< -Wl,--start-group $(B)/libworker.a $(B)/libloader.a $(B)/libcommon.a -Wl,--end-group -lcmocka $(LIBS_worker) $(LIBS_loader)
$(B)/unit/test_ctl_%: $(B)/obj/tests/unit/test_ctl_%.o $(B)/libcontroller.a $(B)/libcommon.a
	$(link) $< -Wl,--start-group $(B)/libcontroller.a $(B)/libcommon.a -Wl,--end-group -lcmocka $(LIBS_controller)
$(B)/unit/test_sup_%: $(B)/obj/tests/unit/test_sup_%.o $(B)/libsupervisor.a $(B)/libcommon.a
	$(link) $< -Wl,--start-group $(B)/libsupervisor.a $(B)/libcommon.a -Wl,--end-group -lcmocka $(LIBS_common)
$(B)/unit/test_net_%: $(B)/obj/tests/unit/test_net_%.o $(B)/libhelper.a $(B)/libcommon.a
	$(link) $< -Wl,--start-group $(B)/libhelper.a $(B)/libcommon.a -Wl,--end-group -lcmocka $(LIBS_helper)
$(B)/unit/test_%: $(B)/obj/tests/unit/test_%.o $(B)/libworker.a $(B)/libloader.a $(B)/libcommon.a
	$(link) $< -Wl,--start-group $(B)/libworker.a $(B)/libloader.a $(B)/libcommon.a -Wl,--end-group -lcmocka $(LIBS_worker) $(LIBS_loader)
.PRECIOUS: $(B)/obj/tests/unit/%.o
unit: $(UNIT)

# ---- what a rule set matches: tests/match/differential.py compares it with a slow matcher
match-ask: $(B)/tests/match-ask
$(B)/tests/match-ask: $(B)/obj/tests/match/ask.o $(B)/libworker.a $(B)/libloader.a $(B)/libcommon.a
	$(link) $< -Wl,--start-group $(B)/libworker.a $(B)/libloader.a $(B)/libcommon.a -Wl,--end-group $(LIBS_worker) $(LIBS_loader)

# ---- the sandbox prober: tests/sandbox/run.sh runs it
probe: $(B)/tests/probe
$(B)/tests/probe: $(call obj,$(wildcard tests/sandbox/*.c)) $(B)/libcommon.a
	$(link) $(filter %.o,$^) $(B)/libcommon.a $(LIBS_common)

# ---- the load of tests/reload/torture.py
load: $(B)/tests/load
$(B)/tests/load: $(call obj,$(wildcard tests/reload/load/*.c))
	$(link) $^ -lcrypto

# ---- fuzzing: tests/fuzz/fuzz_X.c with LLVMFuzzerTestOneInput, corpus in tests/fuzz/corpus/X
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ := $(patsubst tests/fuzz/%.c,build-fuzz/%,$(FUZZ_SRC))
FUZZ_OBJ := $(patsubst %.c,build-fuzz/obj/%.o,$(filter-out %/main.c,$(COMMON_SRC) $(WORKER_SRC) $(LOADER_SRC) $(HELPER_SRC)))
FUZZFLAGS := $(BASE) -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -DSLUICE_NO_SANDBOX
build-fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  FUZZ  $<"
	$(Q)$(CLANG) $(FUZZFLAGS) -MMD -MP -c $< -o $@
build-fuzz/libfuzzed.a: $(FUZZ_OBJ)
	$(Q)rm -f $@ && ar rcs $@ $^
build-fuzz/fuzz_%: tests/fuzz/fuzz_%.c build-fuzz/libfuzzed.a
	@echo "  LINK  $@"
	$(Q)$(CLANG) $(FUZZFLAGS) -fsanitize=fuzzer -o $@ $< build-fuzz/libfuzzed.a $(LIBS_worker) $(LIBS_loader) $(LIBS_$(notdir $@))
LIBS_fuzz_dns_ldns := -lldns
fuzz-build: $(FUZZ)
fuzz: $(FUZZ)
	$(Q)tests/fuzz/run.sh build-fuzz $(FUZZ_SECONDS)

sim: $(B)/unit/test_sim_weather
	$(Q)SIM_SEEDS=$(SEEDS) $<

test: all
	$(Q)sh packaging/test.sh --no-install
check: check-layers check-banned check-man
check-layers:
	$(Q)sh tests/check-layers.sh
check-banned:
	$(Q)sh tests/check-banned.sh
check-man:
	$(Q)sh tests/check-man.sh
run: all
	$(Q)sh packaging/run.sh --no-install
# N reloads under load with their share of restarts, upgrades and kills; AGAINST=PROGRAM measures another one. Root sees what a killed worker held
N ?= 100
reload-torture: all load
	$(Q)python3 tests/reload/torture.py -n $(N) -v --report $(B)/torture-$(if $(AGAINST),against-)$(N).txt $(if $(AGAINST),--against $(AGAINST)) $(TORTURE) $(B)/sluice
bench: all
	$(Q)sh tests/bench/run.sh $(B)
# what one look-up in compiled rule data costs
bench-match: $(B)/tests/bench-match
	$(Q)$<
$(B)/tests/bench-match: $(B)/obj/tests/bench/match.o $(B)/libworker.a $(B)/libloader.a $(B)/libcommon.a
	$(link) $< -Wl,--start-group $(B)/libworker.a $(B)/libloader.a $(B)/libcommon.a -Wl,--end-group $(LIBS_worker) $(LIBS_loader)
format:
	$(Q)git ls-files '*.c' '*.h' | grep -v '^common/blake3/' | xargs clang-format-14 -i

install: all
	$(Q)DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' UNITDIR='$(UNITDIR)' sh packaging/install.sh $(B) '$(VERSION)'
deb: all
	$(Q)sh packaging/deb/build.sh $(B) '$(VERSION)'
clean:
	rm -rf build build-asan build-tsan build-fuzz
help:
	@echo "all run test unit check fuzz sim bench bench-match reload-torture install deb format clean; SAN=asan|tsan WERROR=1 V=1 SEEDS= PREFIX= DESTDIR="

-include $(shell find $(B) build-fuzz -type f -name '*.d' 2>/dev/null)
.PHONY: FORCE all unit match-ask probe load fuzz fuzz-build sim test check check-layers check-banned check-man run bench bench-match reload-torture format install deb clean help

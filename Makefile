# oriel. `make help` lists the targets.
#
# Every .c below src/ and tests/ is found by itself: adding a file needs no edit
# here. A suffix is a build rule: foo_avx2.c is compiled with -mavx2 and only on
# x86-64, foo_avx512.c and foo_neon.c likewise; base code stays portable.

PRESET ?= release
PREFIX ?= /usr/local
B      := build/$(PRESET)
T      ?=

ARCH := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
ifneq ($(shell command -v ccache 2>/dev/null),)
  CCACHE := ccache
endif

PKGS := libmicrohttpd jansson libpcre2-8 libutf8proc sqlite3 libcurl libcrypto libedit md4c zlib libzstd libseccomp sndfile samplerate

VERSION := $(shell cat VERSION)
CPPFLAGS += -Isrc -D_GNU_SOURCE -DPCRE2_CODE_UNIT_WIDTH=8 -DORIEL_VERSION='"$(VERSION)"'
WARN := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef \
  -Wno-format-truncation
ifdef WERROR
  WARN += -Werror
endif
CFLAGS_all := -std=gnu17 -g $(WARN) -ffp-contract=off -fno-math-errno -fno-strict-aliasing \
  -fstack-protector-strong -fPIE -pthread
LDFLAGS_all := -pie -pthread -Wl,-z,relro,-z,now
CFLAGS_release := -O2 -D_FORTIFY_SOURCE=2 -DNDEBUG
CFLAGS_debug   := -O1 -DORIEL_DEBUG
CFLAGS_asan    := -O1 -DORIEL_DEBUG -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CFLAGS_tsan    := -O1 -DORIEL_DEBUG -fsanitize=thread -fno-omit-frame-pointer
CFLAGS_fuzz    := -Wno-unknown-warning-option -O1 -DORIEL_DEBUG -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDFLAGS_fuzz   := -fsanitize=address,undefined
LDFLAGS_asan   := -fsanitize=address,undefined
LDFLAGS_tsan   := -fsanitize=thread
ifeq ($(filter $(PRESET),release debug asan tsan fuzz),)
  $(error unknown PRESET '$(PRESET)': release, debug, asan or tsan)
endif

PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)

ALL_CFLAGS  := $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS_all) $(CFLAGS_$(PRESET)) $(CFLAGS)
ALL_LDFLAGS := $(LDFLAGS_all) $(LDFLAGS_$(PRESET)) $(LDFLAGS)
LIBS := $(PKG_LIBS) -lm

# ── sources ──────────────────────────────────────────────────────────────
SRCS := $(sort $(wildcard src/*/*.c src/*/*/*.c))
ifeq ($(ARCH),x86_64)
  SRCS := $(filter-out %_neon.c,$(SRCS))
else ifeq ($(ARCH),aarch64)
  SRCS := $(filter-out %_avx2.c %_avx512.c,$(SRCS))
else
  SRCS := $(filter-out %_neon.c %_avx2.c %_avx512.c,$(SRCS))
endif
LIB_SRCS := $(filter-out src/cli/main.c,$(SRCS))
LIB_OBJS := $(LIB_SRCS:%.c=$(B)/%.o)

TEST_SRCS := $(sort $(wildcard tests/unit/*/test_*.c tests/kern/test_*.c tests/prop/test_*.c \
               tests/golden/test_*.c tests/sim/test_*.c))
TEST_BINS := $(TEST_SRCS:%.c=$(B)/%)
TEST_LIB  := $(patsubst %.c,$(B)/%.o,$(wildcard tests/lib/*.c))
FUZZ_SRCS := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_BINS := $(FUZZ_SRCS:%.c=$(B)/%)
BENCH_SRCS := $(sort $(wildcard bench/bench_*.c))
BENCH_BINS := $(BENCH_SRCS:%.c=$(B)/%)

.PHONY: all help docs test soak soak-http check-tests asan tsan debug bench fuzz fmt lint layers headers metrics install uninstall clean
.SECONDARY:
all: $(B)/oriel

help:
	@echo 'make                    build build/release/oriel'
	@echo 'make test [T=room]      build and run the tests (T: only paths that contain it)'
	@echo 'make debug|asan|tsan    the same program in build/<preset>; `make test PRESET=asan` tests it'
	@echo 'make fuzz T=gguf        run a fuzz target with clang'"'"'s libFuzzer (FUZZ_SECONDS=60)'
	@echo 'make soak               the simulator and the random tests for long (SOAK_WORLDS=2000; PRESET=tsan too)'
	@echo 'make soak-http          connections made and given up at random points (SOAK_CYCLES=10000; PRESET=asan, tsan)'
	@echo 'make docs               docs/API.md from the route and field tables'
	@echo 'make bench              build and run the kernel benchmarks'
	@echo 'make fmt | lint         clang-format | layers, headers, banned calls, clang-tidy'
	@echo 'make metrics            lines per room and the longest functions'
	@echo 'make install            bin/oriel and its man page below PREFIX=$(PREFIX) (DESTDIR= too)'
	@echo 'make uninstall          takes them away again'
	@echo 'make clean              remove build/'

# ── build ────────────────────────────────────────────────────────────────
$(B)/oriel: $(B)/src/cli/main.o $(B)/liboriel.a
	@echo '  LD $@'
	@$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/liboriel.a: $(LIB_OBJS)
	@rm -f $@
	@$(AR) rcs $@ $^

$(B)/%_avx2.o: ISA := -mavx2 -mfma -mf16c
$(B)/%_avx512.o: ISA := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
# Arithmetic is what the time goes into. (Sanitizers at -O3 take minutes to compile it.)
$(B)/src/kern/%.o: OPT := $(if $(filter asan tsan,$(PRESET)),-O1,-O3)
# asan's fake stack frames are aligned to 32 bytes only, which 64-byte vectors on the stack do not survive.
ifeq ($(PRESET),asan)
$(B)/src/kern/%_avx512.o: OPT := -O1 --param asan-use-after-return=0
endif
$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo '  CC $<'
	@$(CCACHE) $(CC) $(ALL_CFLAGS) $(OPT) $(ISA) -MMD -MP -c -o $@ $<

HOUSE_MODEL := models/oriel-house.gguf
ifneq ($(wildcard $(HOUSE_MODEL)),)
$(B)/src/hub/builtin.o: $(HOUSE_MODEL)
$(B)/src/hub/builtin.o: ISA := -DORIEL_BUILTIN='"$(abspath $(HOUSE_MODEL))"'
endif

# The chat page lies in the program as well.
$(B)/src/api/page.o: $(wildcard src/page/*)

# The commit goes into measurements. It changes this one file, and only when it changed.
COMMIT := $(shell git describe --always --dirty=+ --exclude='*' 2>/dev/null)
ifneq ($(COMMIT),)
$(shell mkdir -p $(B) && { [ "$$(cat $(B)/commit 2>/dev/null)" = '$(COMMIT)' ] || echo '$(COMMIT)' >$(B)/commit; })
$(B)/src/cli/probe.o: $(B)/commit
$(B)/src/cli/probe.o: ISA := -DORIEL_COMMIT='"$(COMMIT)"'
endif

# ── tests ────────────────────────────────────────────────────────────────
$(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(B)/tests/lib/fuzz_replay.o $(B)/liboriel.a
	@echo '  LD $@'
	@$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)
$(B)/tests/%: $(B)/tests/%.o $(filter-out $(B)/tests/lib/fuzz_replay.o,$(TEST_LIB)) $(B)/liboriel.a
	@echo '  LD $@'
	@$(CC) $(ALL_LDFLAGS) -o $@ $^ -lcmocka $(LIBS)
$(B)/tests/%.o: OPT := -Itests/lib
$(B)/bench/%: $(B)/bench/%.o $(B)/liboriel.a
	@echo '  LD $@'
	@$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

# With T only the programs whose path contains one of its words are built and run.
WANTED := $(if $(T),$(sort $(foreach w,$(T),$(foreach t,$(TEST_BINS) $(FUZZ_BINS),$(if $(findstring $(w),$(t)),$(t))))),$(TEST_BINS) $(FUZZ_BINS))
test: $(WANTED) $(B)/oriel
	@python3 tests/run.py --build $(B) $(if $(T),--filter '$(T)')

# The engine's simulator for as long as one likes: SOAK_WORLDS engines of 180 jobs each.
SOAK_WORLDS ?= 2000
SOAKED := prop/test_context prop/test_exact_reuse unit/kv/test_reuse unit/kv/test_disk sim/test_engine \
	unit/chat/test_render unit/chat/test_read unit/tok/test_encode
soak: $(B)/oriel $(SOAKED:%=$(B)/tests/%)
	ORIEL_BUILD=$(abspath $(B)) ORIEL_PLAN_ALL=1 python3 tests/e2e/test_plan.py
	ORIEL_BUILD=$(abspath $(B)) ORIEL_TEMPLATES=3000 python3 tests/e2e/test_random_templates.py
	ORIEL_BUILD=$(abspath $(B)) ORIEL_CALLS=60 python3 tests/e2e/test_random_calls.py
	ORIEL_BUILD=$(abspath $(B)) ORIEL_TOKENS=1500 python3 tests/e2e/test_random_tokens.py
	ORIEL_CONTEXT_CASES=100000 $(B)/tests/prop/test_context
	ORIEL_DIVERGENCES=2000 $(B)/tests/prop/test_exact_reuse
	ORIEL_KV_WORLDS=60 $(B)/tests/unit/kv/test_reuse
	ORIEL_KV_KILLS=200 $(B)/tests/unit/kv/test_disk
	ORIEL_SIM_WORLDS=$(SOAK_WORLDS) ORIEL_SIM_SEED=$${ORIEL_SIM_SEED:-100000} $(B)/tests/sim/test_engine

# A server whose clients leave at random points: nothing of them may be left.
SOAK_CYCLES ?= 10000
soak-http: $(B)/oriel
	ORIEL_BUILD=$(abspath $(B)) ORIEL_CYCLES=$(SOAK_CYCLES) python3 tests/e2e/test_load.py cycles

asan tsan debug:
	$(MAKE) PRESET=$@ all

# The fuzz preset is the library under clang; a target links only what it calls.
FUZZ_SECONDS ?= 60
$(B)/libfuzzer/%: $(B)/tests/fuzz/fuzz_%.o $(B)/liboriel.a
	@mkdir -p $(@D)
	@echo '  LD $@'
	@$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)
fuzz:
	@test -n '$(T)' || { echo 'which one? make fuzz T=NAME, from: $(patsubst tests/fuzz/fuzz_%.c,%,$(FUZZ_SRCS))'; exit 2; }
	@$(MAKE) --no-print-directory PRESET=fuzz CC=clang-14 build/fuzz/libfuzzer/$(T)
	@mkdir -p build/fuzz/corpus/$(T)
	build/fuzz/libfuzzer/$(T) -max_total_time=$(FUZZ_SECONDS) -timeout=10 build/fuzz/corpus/$(T) $(wildcard tests/fuzz/corpus/$(T))

# docs/API.md from the tables that decide requests.
docs: $(B)/tests/unit/api/test_api_docs
	@ORIEL_WRITE_DOCS=1 $< >/dev/null && echo docs/API.md

bench: $(BENCH_BINS)
	@for b in $^; do echo "== $$b"; $$b || exit 1; done

# ── hygiene ──────────────────────────────────────────────────────────────
C_FILES := $(wildcard src/*/*.[ch] src/*/*/*.[ch] tests/*/*.[ch] tests/unit/*/*.[ch] bench/*.[ch])
fmt:
	clang-format-14 -i $(C_FILES)
lint: layers headers
	@python3 tools/lint/banned.py
	clang-tidy-14 --quiet $(filter-out %_avx512.c %_avx2.c,$(SRCS)) -- $(CPPFLAGS) $(PKG_CFLAGS) -std=gnu17
layers:
	@python3 tools/lint/layers.py
headers:
	@set -e; for h in src/*/*.h; do echo "#include \"$${h#src/}\"" | $(CC) $(ALL_CFLAGS) -fsyntax-only -x c - || { echo "$$h does not compile alone"; exit 1; }; done; echo 'headers: each compiles alone'
metrics:
	@python3 tools/lint/metrics.py

install: $(B)/oriel
	install -D -m 755 $(B)/oriel $(DESTDIR)$(PREFIX)/bin/oriel
	install -D -m 644 man/oriel.1 $(DESTDIR)$(PREFIX)/share/man/man1/oriel.1
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/oriel $(DESTDIR)$(PREFIX)/share/man/man1/oriel.1
clean:
	rm -rf build

-include $(shell find $(B) -name '*.d' 2>/dev/null)

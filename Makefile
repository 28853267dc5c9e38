# The two commands of the README, and what a developer needs beside them. Each sets up what it needs under
# .venv and build/, from Python 3.11, pip and g++ alone; nothing is rebuilt that has not changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

SOURCES := $(shell find csrc python guest -type f -not -path '*/__pycache__/*') CMakeLists.txt pyproject.toml README.md LICENSE

# What tests compare with, and where each comes from in Debian.
TOOLS := riscv64-linux-gnu-objdump:binutils-riscv64-linux-gnu dtc:device-tree-compiler mkfs.ext4:e2fsprogs gpgv:gpgv
FILES := /usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin:opensbi /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring

# How long each fuzz target runs.
FUZZ_SECONDS ?= 60
FUZZ_SEED ?= 0

.PHONY: demo test lint bench asan fuzz fuzz-coverage fuzz-tools build stubs board format tools guests clean

demo: $(VENV)/installed
	wirt demo

# As many tests at a time as there are cores; PYTEST="-n 0 -k ..." for one after the other.
PARALLEL := -n auto --dist worksteal

test: $(VENV)/installed tools guests
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST)

# --- set-up ---

$(VENV)/created:
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m pip install virtualenv && $(PYTHON) -m virtualenv $(VENV); }
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

# The package as a user gets it: a wheel, built from this tree.
$(VENV)/installed: $(VENV)/created $(SOURCES)
	$(BIN)/python -m pip install --quiet ".[test]"
	@touch $@

# Installs what the shell variable `missing` lists, or names it for whoever may.
define install_missing
[ -z "$$missing" ] && exit 0; \
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    echo "installing:$$missing"; \
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
else \
    echo "these packages are needed:$$missing"; echo "(as root: apt-get install$$missing)"; exit 1; \
fi
endef

# Tests never skip for want of a tool: it is installed here, or named for whoever may install it.
tools:
	@missing=""; \
	for pair in $(TOOLS); do command -v $${pair%%:*} >/dev/null 2>&1 || PATH=$$PATH:/usr/sbin:/sbin command -v $${pair%%:*} >/dev/null 2>&1 || missing="$$missing $${pair##*:}"; done; \
	for pair in $(FILES); do [ -e $${pair%%:*} ] || missing="$$missing $${pair##*:}"; done; \
	$(install_missing)

# clang, and the runtime of its fuzzer, which is a package of its own named after clang's version.
fuzz-tools:
	@missing=""; command -v clang++ >/dev/null || missing=" clang"; $(install_missing)
	@missing=""; \
	echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' | \
	    clang++ -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null 2>/dev/null || \
	    missing=" libclang-rt-$$(clang++ -dumpversion | cut -d. -f1)-dev"; \
	$(install_missing)

# Debian's kernel and a small initramfs, through the system's package configuration; kept in the cache folder.
guests: $(VENV)/installed
	wirt pull debian

# --- for developers: a build tree to import from (PYTHONPATH=build/release/python), incremental ---

$(VENV)/developer: $(VENV)/created pyproject.toml
	$(BIN)/python -m pip install --quiet "scikit-build-core>=0.10" "click>=8.1" "rich>=13" "zstandard>=0.21" \
	    $$($(BIN)/python tools/requirements.py build test lint)
	@touch $@

build: $(VENV)/developer
	cmake --preset release && cmake --build build/release -j2

# Debian's boots take ten times as long with sanitizers: the one that is marked is enough, the rest are `make test`'s, as
# are the native programs, which have sanitizers there.
asan: $(VENV)/developer tools guests
	cmake --preset asan && cmake --build build/asan -j2
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=build/asan/python \
	$(BIN)/python -m pytest -p no:cacheprovider $(PARALLEL) -m "(not debian or sanitizers) and not native" $(PYTEST)

# Each fuzz target for a time, two for each core at a time; what they find and what they learn stays under build/fuzz.
fuzz: $(VENV)/developer fuzz-tools
	cmake --preset fuzz && cmake --build build/fuzz -j2
	$(BIN)/python fuzz/run.py build/fuzz --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED) $(TARGETS)

# Which lines the corpora of the last runs reach (needs LLVM's llvm-cov and llvm-profdata).
fuzz-coverage: $(VENV)/developer fuzz-tools
	cmake --preset fuzz-coverage && cmake --build build/fuzz-coverage -j2
	$(BIN)/python fuzz/run.py build/fuzz-coverage --coverage $(TARGETS)

lint: $(VENV)/installed $(VENV)/developer
	ruff check . && ruff format --check .
	mypy
	find csrc fuzz -name '*.cpp' -o -name '*.h' | xargs clang-format --dry-run --Werror
	$(BIN)/python tools/stubs.py --check
	$(BIN)/python tools/board.py --check

format: $(VENV)/developer
	ruff check --fix . && ruff format .
	find csrc fuzz -name '*.cpp' -o -name '*.h' | xargs clang-format -i

stubs: build
	PYTHONPATH=build/release/python $(BIN)/python tools/stubs.py

board: build
	PYTHONPATH=build/release/python $(BIN)/python tools/board.py

bench: $(VENV)/installed
	$(BIN)/python -m pytest benchmarks --benchmark-only $(PYTEST)

clean:
	rm -rf build $(VENV)

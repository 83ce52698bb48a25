# A fresh machine needs Python 3.11 or newer, and make. `make help` lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# The vLLM engine's server lives in an environment of its own.
VLLM_VENV ?= .venv-vllm
# On a machine without an NVIDIA driver, name a package index that serves CPU builds of torch, and
# gigabytes of CUDA libraries stay away:
#     make install TORCH_INDEX=<address of the index>
# Only torch itself is taken from that index, everything else from pip's usual one.
TORCH_INDEX ?=
# Packages whose own requirements would hold ours back live in environments of their own, which lie over this one: what
# such an environment lacks comes from here.
ADAPTERS := verifiers openenv kernels
# Tests run side by side, one thread each; a file's tests stay together. One more than two cores have: many wait for others.
WORKERS ?= 3
# Extra arguments for pytest, as in: make test PYTEST_ARGS="-x -k shipped"
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install vllm adapters quickstart fuzz mutants lint format reference test test-fast evidence soak clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP)  ## make the environment and fetch the default model
	@$(BIN)/fdt model

$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, got: $(PYTHON). Name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@start=$$(date +%s); \
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV) || \
	  { echo "The venv module is incomplete. On Debian: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }; \
	if ! command -v nvidia-smi >/dev/null && [ -n "$(TORCH_INDEX)" ]; then \
	  $(BIN)/python -m pip install --quiet --no-deps --index-url "$(TORCH_INDEX)" "$$(grep '^torch==' constraints.txt)" \
	    || exit 1; \
	elif ! command -v nvidia-smi >/dev/null; then \
	  echo "No NVIDIA driver found; TORCH_INDEX can name an index with CPU builds of torch (see README)."; \
	fi; \
	echo "Installing into $(VENV) ..."; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' || exit 1; \
	$(BIN)/fdt model >/dev/null && $(BIN)/fdt model all-minilm-l6-v2 >/dev/null || exit 1; \
	touch $@; \
	echo "Installed in $$(( $$(date +%s) - start )) s: $$(du -sh $(VENV) | cut -f1) in $(VENV)," \
	  "$$(du -sh "$$($(BIN)/fdt model --path)" | cut -f1) for the default model."

vllm: $(VLLM_VENV)/.installed  ## a second environment, with vLLM for CPUs: what FDT_VLLM_PYTHON and its tests use

$(VLLM_VENV)/.installed: constraints-vllm.txt
	@start=$$(date +%s); pip="$(VLLM_VENV)/bin/python -m pip --disable-pip-version-check --quiet"; \
	test -x $(VLLM_VENV)/bin/python || "$(PYTHON)" -m venv $(VLLM_VENV) || { rm -rf $(VLLM_VENV); exit 1; }; \
	if [ -n "$(TORCH_INDEX)" ]; then \
	  $$pip install --no-deps --index-url "$(TORCH_INDEX)" "$$(grep '^torch==' constraints-vllm.txt)" || exit 1; \
	fi; \
	echo "Installing into $(VLLM_VENV) ..."; \
	$$pip install --no-deps -r constraints-vllm.txt && $$pip install --no-deps -e . || exit 1; \
	$(VLLM_VENV)/bin/python -c 'import torch, vllm' || exit 1; \
	touch $@; \
	echo "Installed in $$(( $$(date +%s) - start )) s: $$(du -sh $(VLLM_VENV) | cut -f1) in $(VLLM_VENV)."

adapters: $(ADAPTERS:%=$(VENV)-adapters/%/.installed)  ## environments for the tests of verifiers, OpenEnv and fused kernels

$(VENV)-adapters/%/.installed: tests/adapters/%.txt $(STAMP)
	@rm -rf $(@D) && "$(PYTHON)" -m venv --without-pip $(@D)
	@purelib='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	echo "import site; site.addsitedir('$$($(abspath $(BIN))/python -c "$$purelib")')" \
	  > "$$($(@D)/bin/python -c "$$purelib")/under.pth"; \
	echo "Installing into $(@D) ..."; \
	$(BIN)/python -m pip --python $(@D)/bin/python install --quiet --disable-pip-version-check -r $<
	@touch $@

quickstart: install  ## train the default model on the bundled feedback file (3 to 6 minutes on 2 cores)
	$(BIN)/fdt fit -c configs/quickstart.yaml

lint: $(STAMP)  ## style, formatting, types, weaknesses of the pinned packages; what is wrong is said by all four
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/ruff format --check . || status=1; \
	$(BIN)/mypy || status=1; \
	$(BIN)/python .ci/audit.py || status=1; \
	exit $$status

format: $(STAMP)  ## mend what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: $(STAMP)  ## write docs/reference from the docstrings
	$(BIN)/fdt reference --out docs/reference

test: install  ## every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

test-fast: install  ## the tests that serve while working
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow" $(PYTEST_ARGS)

fuzz: install  ## readers, replies, configs and checkpoints under made-up bytes (10 minutes)
	$(BIN)/python -m tests.fuzz.run $(FUZZ_SECONDS)

mutants: install  ## mistakes made on purpose, each of which a test must notice (some minutes)
	$(BIN)/python -m tests.mutations.run $(MUTANTS)

evidence: install  ## the full-length tables (hours)
	$(BIN)/python benchmarks/evidence.py

soak: install  ## kills, signals, hangs and many steps, at length (an hour); the table of docs/reliability.md
	$(BIN)/python benchmarks/soak.py

clean:  ## remove the environments, builds and caches; runs/ and the cached model stay
	rm -rf $(VENV) $(VLLM_VENV) $(VENV)-adapters dist build .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

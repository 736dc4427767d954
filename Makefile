# One command per act, the same for people and for continuous integration. `make` alone lists them.

PYTHON ?= python3
MODEL ?=
ARGS ?=
# The Python tests run this many times at once, each time in another order: most of the time they wait for servers.
ROUNDS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
CARGO := cargo --config net.retry=3
MANIFEST := --manifest-path native/Cargo.toml
# The extension itself has no tests in Rust, and linking them would need a shared libpython.
CRATES := --workspace --exclude servekit-python

# rustup's folder comes last, so that a toolchain chosen by the user stays chosen.
export PATH := $(PATH):$(HOME)/.cargo/bin
export VIRTUAL_ENV := $(abspath $(VENV))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1

# What the extension is built from: a change to any of these builds it again.
SOURCES := pyproject.toml $(wildcard protos/*.proto) \
	$(shell find native -name target -prune -o \( -name '*.rs' -o -name 'Cargo.*' \) -print)

.DEFAULT_GOAL := help
.PHONY: help serve test test-rust test-python lint format bench clean toolchain
.DELETE_ON_ERROR:

help:
	@echo 'make serve [MODEL=path.onnx] [ARGS=...]   build and serve a model; the bundled demo without MODEL'
	@echo 'make test                                 lint, the Rust tests, the Python tests'
	@echo 'make lint                                 rustfmt, clippy, ruff, mypy --strict, the rules of the tree'
	@echo 'make format                               let rustfmt and ruff write what lint asks for'
	@echo 'make bench [ARGS=--help]                  what a request costs: the table in README.md'
	@echo 'make clean                                remove everything that the above have made'

serve: $(STAMPS)/serve
	@exec $(BIN)/servekit serve $(MODEL) $(ARGS)

test: lint test-rust test-python

# The tests of the engine ask this Python where the ONNX Runtime library is.
test-rust: $(STAMPS)/test
	PYTHON=$(abspath $(BIN)/python) $(CARGO) test $(MANIFEST) $(CRATES) --quiet

test-python: $(STAMPS)/test
	@rounds=; for round in $$(seq $(ROUNDS)); do \
		$(BIN)/python -m pytest -q -p no:cacheprovider $(ARGS) > $(STAMPS)/round-$$round.log 2>&1 & \
		rounds="$$rounds $$round:$$!"; \
	done; \
	failed=0; for one in $$rounds; do \
		wait $${one#*:} || failed=$$?; cat $(STAMPS)/round-$${one%:*}.log; \
	done; exit $$failed

lint: $(STAMPS)/test
	$(CARGO) fmt $(MANIFEST) --all --check
	$(CARGO) clippy $(MANIFEST) --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/tree

format: $(STAMPS)/test
	$(CARGO) fmt $(MANIFEST) --all
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format --quiet

bench: $(STAMPS)/test
	$(BIN)/python -m loadtests.bench $(ARGS)

clean:
	rm -rf $(VENV) native/target loadtests/work build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find servekit tests loadtests -name __pycache__ -prune -exec rm -rf {} +
	rm -f servekit/_native*.so

# What has to be on the machine already; each message names the line that helps.
toolchain:
	@command -v cargo >/dev/null || { printf '%s\n' 'cargo is missing: servekit builds with Rust 1.92 or later. This installs it:' \
		'  curl --proto "=https" --tlsv1.2 -sSf https://sh.rustup.rs | sh' >&2; exit 1; }
	@command -v cc >/dev/null || { printf '%s\n' 'a C compiler is missing. This installs one on Debian and Ubuntu:' \
		'  apt-get install gcc libc6-dev' >&2; exit 1; }
	@test -x $(BIN)/python || { command -v "$(PYTHON)" >/dev/null \
		&& "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; } || { \
		printf '%s\n' 'Python 3.11 or later is missing. If you have one under another name:' \
		'  make PYTHON=python3.12 $(MAKECMDGOALS)' 'On Debian and Ubuntu:' '  apt-get install python3 python3-venv' >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		printf '%s\n' 'the venv module of Python is missing. This installs it on Debian and Ubuntu:' \
		'  apt-get install python3-venv' >&2; exit 1; }

$(STAMPS)/tools: pyproject.toml | toolchain
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --retries 10 'maturin>=1.9,<2'
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/serve: $(SOURCES) $(STAMPS)/tools
	$(BIN)/maturin develop --release --quiet
	@touch $@

$(STAMPS)/test: $(SOURCES) $(STAMPS)/tools
	$(BIN)/maturin develop --release --quiet --extras test,dev
	@touch $@ $(STAMPS)/serve

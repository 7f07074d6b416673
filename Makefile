# Two commands do everything: `make demo` and `make test`. Each sets up .venv by itself.
SHELL := /bin/sh
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --constraint constraints.txt

# For `make demo`: your own videos (class/video.*), split files, where the results go, the size of encoded frames, epochs.
# For `make bench`: your own videos, rounds.
VIDEOS ?=
SPLITS ?=
OUT ?= demo/$(shell basename "$(or $(VIDEOS),sample)")
SIZE ?= 80x80
EPOCHS ?=
REPEATS ?= 3
SET_EPOCHS = $(if $(EPOCHS),--set optim.epochs=$(EPOCHS))

# tests on every core, up to eight; each worker takes half a gigabyte
PYTEST = $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

.PHONY: help demo test lint check bench clean

help:
	@echo "make demo   from videos to an evaluated student and a report (VIDEOS=DIR for your own, SPLITS=FILE, OUT=DIR)"
	@echo "make test   every test, from nothing"
	@echo "make check  format, lint, types, import contracts, fast tests"
	@echo "make bench  speed beside named peers, on sample videos (VIDEOS=DIR for your own, REPEATS=N)"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; install one, for example: apt install python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: Python has no venv; install it, for example: apt install python3-venv" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)

# torch first and at its exact version: a looser request may pull another build
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "installing torch into $(VENV) ..."
	@$(PIP) "$$(grep '^torch==' constraints.txt)" && touch $@

$(VENV)/.run: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "installing mfcd into $(VENV) ..."
	@$(PIP) --editable '.[prep,train]' && touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.run
	@echo "installing test tools into $(VENV) ..."
	@$(PIP) --editable '.[prep,train,baselines,cluster,export,dev]' && touch $@

demo: $(VENV)/.run
	@set -eu; PATH="$(CURDIR)/$(BIN):$$PATH"; out="$(OUT)"; videos="$(VIDEOS)"; \
	step() { printf '\n$$ %s\n' "$$*"; "$$@"; }; \
	some_may_fail() { step "$$@" || [ $$? = 1 ]; }; \
	if [ -z "$$videos" ]; then videos="$$out/videos"; step mfcd-prep sample "$$videos" --videos-per-class 80; fi; \
	some_may_fail mfcd-prep encode "$$videos" "$$out/encoded" --size $(SIZE); \
	some_may_fail mfcd-prep extract "$$out/encoded" "$$out/store" $(foreach list,$(SPLITS),--splits "$(list)"); \
	step mfcd-prep verify "$$out/store" --deep "$$out/encoded"; \
	step mfcd-train "$$out/store" --recipe demo-teacher $(SET_EPOCHS) --out "$$out/teacher"; \
	step mfcd-eval "$$out/teacher" "$$out/store"; \
	step mfcd-train "$$out/store" --recipe demo-student $(SET_EPOCHS) --teacher "$$out/teacher" --out "$$out/student"; \
	step mfcd-eval "$$out/student" "$$out/store"; \
	step mfcd-eval report "$$out/store" "$$out/teacher" "$$out/student" --out "$$out/report.html"

test: $(VENV)/.dev
	@$(PYTEST)

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: lint
	@$(PYTEST) -m 'not slow' -q

# status 1 is a target that was missed, and failed videos of encode: both are said
bench: $(VENV)/.run
	@set -eu; PATH="$(CURDIR)/$(BIN):$$PATH"; out="$$(mktemp -d)"; trap 'rm -rf "$$out"' EXIT; trap 'exit 130' INT TERM; \
	videos="$(VIDEOS)"; \
	step() { printf '\n$$ %s\n' "$$*"; "$$@"; }; \
	may_miss() { step "$$@" || [ $$? = 1 ]; }; \
	if [ -z "$$videos" ]; then videos="$$out/videos"; step mfcd-prep sample "$$videos" --size 256x256 --frames 120; fi; \
	may_miss mfcd-bench encode "$$videos" --jobs 1 --repeats $(REPEATS); \
	may_miss mfcd-prep encode "$$videos" "$$out/encoded"; \
	may_miss mfcd-bench extract "$$out/encoded" --repeats $(REPEATS); \
	step mfcd-prep extract "$$out/encoded" "$$out/store"; \
	may_miss mfcd-bench load "$$out/store" --encoded "$$out/encoded" --repeats $(REPEATS); \
	may_miss mfcd-bench train "$$out/store" --repeats $(REPEATS)

clean:
	rm -rf $(VENV) demo

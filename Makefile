# Everything runs from a virtual environment inside the clone: nothing to prepare by hand.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help train test test-all check format docs clean
help:            ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

train: $(READY)  ## train an NFNet on real handwritten digits, about a minute on a laptop
	$(BIN)/normfree train

test: check      ## lint, types, import direction, then every test but the slow ones
	$(BIN)/pytest -m "not slow"

test-all: check  ## the slow tests too
	$(BIN)/pytest

check: $(READY)  ## lint, formatting, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)   ## build the site into docs/_build
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build

clean:           ## remove the virtual environment and what was built
	rm -rf $(VENV) dist docs/_build

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

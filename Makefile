# Everything runs from a virtual environment inside the clone: nothing to prepare by hand.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SANITIZERS := -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all

.PHONY: help train test test-all check format audit bench docs kernels sanitize wheel clean
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

# In an environment of its own: what looks for faults is not among what is looked at.
AUDIT := build/audit/bin
audit:           ## dependencies with known vulnerabilities, from the lists of PyPI and OSV: needs a network
	test -x $(AUDIT)/pip-audit || { $(PYTHON) -m venv build/audit && $(AUDIT)/pip install --quiet pip-audit; }
	$(AUDIT)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --vulnerability-service pypi
	$(AUDIT)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --vulnerability-service osv

# timm asks for torchvision, which has no build for every PyTorch; benchmarks do without it.
bench: $(READY)  ## a few benchmarks beside timm, today's ratios beside the stored ones: a few minutes
	$(BIN)/pip install --quiet --constraint constraints.txt huggingface_hub
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps timm
	$(BIN)/python benchmarks/suite.py

kernels: $(READY) ## build the C kernels again, after a change of their sources
	$(BIN)/python setup.py --quiet build_ext --inplace

sanitize: $(READY) ## the kernels' tests with address and undefined-behavior sanitizers
	rm -rf build
	CFLAGS="-g -fno-omit-frame-pointer $(SANITIZERS)" LDFLAGS="$(SANITIZERS)" $(BIN)/pip install --quiet \
	  --no-deps --no-build-isolation --target build/sanitize .
	LD_PRELOAD="$$($${CC:-cc} -print-file-name=libasan.so) $$($${CC:-cc} -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0 \
	  $(BIN)/pytest -q -p no:cacheprovider -o pythonpath="build/sanitize ." \
	  tests/unit/kernels tests/unit/augment

wheel: $(READY)  ## build the source distribution and this platform's wheel into dist
	$(BIN)/python -m build

docs: $(READY)   ## build the site into docs/_build
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build

clean:           ## remove the virtual environment and what was built
	rm -rf $(VENV) build dist docs/_build normfree/kernels/_cpu.so

# The constraints hold for what builds the package, too; pip's name for that changed in 25.3.
$(READY): pyproject.toml setup.py constraints.txt $(wildcard normfree/kernels/csrc/*)
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

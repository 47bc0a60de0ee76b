# Few verbs; each sets up what it needs in $(VENV).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
.ONESHELL:
.SHELLFLAGS := -euc
.PHONY: help demo test lint docs fuzz bench clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp a set of extras, so that a second run installs nothing.
$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	touch $@

# The browser that the page is tried in: Debian's, where that can be had; without one those tests say why they skip.
$(VENV)/browser: | $(BIN)/python
	if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && test "$$(id -u)" = 0; then
		{ apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium; } >/dev/null \
			|| echo "Chromium could not be installed: tests of the page are skipped"
	fi
	touch $@

demo: $(VENV)/installed  ## install, and name what is in the sample photos, offline
	PHOTOLABEL_OFFLINE=1 $(BIN)/photolabel samples/coffee.jpg samples/cat.jpg samples/sideways.jpg samples/rocket.jpg

test: $(VENV)/installed-dev $(VENV)/browser  ## the whole test suite
	export PYTHONDONTWRITEBYTECODE=  # where it is set, each process that tests start would compile the package anew
	# Three files at a time, though of two processors: some of what they do is waiting. The longest first (conftest.py).
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --ignore=tests/clustered
	$(BIN)/pytest tests/clustered  # Ray in a process of its own, as it would have it

lint: $(VENV)/installed-dev  ## style and types
	$(BIN)/ruff check src tests tools bench
	$(BIN)/ruff format --check src tests tools bench
	$(BIN)/mypy

docs: $(VENV)/installed-dev  ## write docs/cli.md from the command line itself
	$(BIN)/python tools/make_cli_reference.py

fuzz: $(VENV)/installed-dev  ## mutate what is read, from photos to HTTP, and kill what writes
	$(BIN)/python tools/fuzz_images.py --cases 50000
	$(BIN)/python tools/fuzz_store.py --cases 50000
	$(BIN)/python tools/fuzz_weights.py --cases 50000
	$(BIN)/python tools/fuzz_http.py --cases 50000
	$(BIN)/python tools/schema_cases.py --cases 2000
	$(BIN)/python tools/kill_downloads.py --kills 100
	$(BIN)/python tools/kill_runs.py --kills 50
	$(BIN)/python tools/kill_saves.py --kills 50

bench: $(VENV)/installed-dev $(VENV)/browser  ## photos, processes, precisions, folders and imports, beside others (installs TensorFlow, JAX, ...)
	failed=
	for bench in decode_memory.py reduced.py whole_process.py precisions.py "precisions.py --agreement" folders.py \
		pipeline.py hard_folder.py evidence.py sureness.py views.py none_of_its_classes.py near_duplicates.py \
		teaching.py feature_pace.py teaching_memory.py fine_tuning.py import_weights.py serving.py "serving.py --soak 10" \
		page.py cluster.py; do
		$(BIN)/python bench/$$bench || failed="$$failed $${bench}"
	done
	test -z "$$failed" || { echo "a bar was missed, or the bench failed:$$failed"; exit 1; }

clean:
	rm -rf $(VENV) .cache build dist

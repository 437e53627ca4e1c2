# make demo, make test: nothing needed but python3 with venv. The environment is made once.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.PHONY: demo test lint types man wheel bench soak screenshot clean

demo: $(STAMP)
	$(BIN)/ptunnel demo

test: $(STAMP)
	$(BIN)/python -m twisted.trial tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# Whenever an option or docs/config.md has changed.
man: $(STAMP)
	$(BIN)/python docs/man/generate.py

wheel: $(STAMP)
	$(BIN)/python -m build --wheel --outdir dist . --config-setting=--quiet

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python bench/run.py --picture bench/comparison.svg

# SECONDS of load, and SEED of all that is random: python -m tests.soak --help
SECONDS ?= 3600
SEED ?=
soak: $(STAMP)
	$(BIN)/python -m tests.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# The picture of the status page in the README; it needs Chromium.
screenshot: $(STAMP)
	PTUNNEL_SCREENSHOT=$(CURDIR)/docs/status.png $(BIN)/python -m twisted.trial \
		tests.integration.test_page.ScreenshotTests

clean:
	rm -rf $(VENV) build dist _trial_temp* .hypothesis .mypy_cache .ruff_cache

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

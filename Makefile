# A fresh machine needs `make demo` and `make test`, and nothing else.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test check clean

demo: .venv/installed
	$(BIN)/recipesearch demo

test: .venv/installed
	scripts/check
	$(BIN)/python -m pytest

check: .venv/installed
	scripts/check

# torch first: the other packages then keep the build that this machine offers for it.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[run,postgres,dev]'
	touch $@

clean:
	rm -rf .venv build runs *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

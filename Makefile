# make demo      install, make preference pairs with a tiny model, train it by SoLoPO on a CPU, compare before and after
# make test      install, run the tests (the slow ones only with `make test-all`)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# LLaMA-Factory calls bare `torchrun` and `llamafactory-cli`.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# uv: use the certificates of the system.
export UV_NATIVE_TLS := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: install demo test test-all lint clean

install: $(STAMP)

$(STAMP): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11: run 'make $(MAKECMDGOALS) PYTHON=python3.11'."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian: python3-venv)."; exit 1; }
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[test]'
	@touch $(STAMP)

demo: install
	$(BIN)/solopo build recipes/data/two_hop.yaml
	$(BIN)/llamafactory-cli train recipes/demo_cpu.yaml
	rm -rf saves/demo_eval
	$(BIN)/solopo eval recipes/eval/two_hop.yaml
	@echo
	@cat saves/demo_eval/table.md
	@echo
	@echo "Before and after in one picture: saves/demo_eval/heatmaps.png; the page: saves/demo_eval/report.html"
	@echo "The training run: saves/demo/training_solopo.png"

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: install
	$(BIN)/python -m pytest -n 2

clean:
	rm -rf $(VENV) saves build *.egg-info

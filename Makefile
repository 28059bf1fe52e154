# make demo: set up and run the whole journey on synthetic X-rays.  make test: set up and run the test suite.
# make gpu: on a machine with a GPU, run all that needs one and write docs/results/gpu.md.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo

.PHONY: demo test lint gpu clean

.venv/demo: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "raddino needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/test: .venv/demo
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: .venv/demo
	$(BIN)/raddino sample --out $(DEMO)/images --number 2400 --size 160
	$(BIN)/raddino prepare $(DEMO)/images --out $(DEMO)/corpus --shorter-side 96
	$(BIN)/raddino pretrain $(DEMO)/corpus --preset cpu-smoke --out $(DEMO)/run
	$(BIN)/raddino embed $(DEMO)/corpus --encoder $(DEMO)/run/encoder
	$(BIN)/raddino evaluate $(DEMO)/corpus --suite synthetic --run $(DEMO)/run --out $(DEMO)/results \
		--encoders trained=$(DEMO)/run/encoder,initial=$(DEMO)/run/initial,raddino-tiny,pca,hog

test: .venv/test
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

gpu: .venv/test
	$(BIN)/python benchmarks/gpu.py

clean:
	rm -rf .venv $(DEMO)

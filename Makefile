# Two commands on a fresh machine: `make demo` and `make test`. Both build the same environment first if it is missing,
# and build it again when pyproject.toml or the constraints change.
PYTHON ?= python3
OUT ?= out/demo
SEED ?= 0
BIN := .venv/bin
# two cores are shared by pytest's workers, so the numerical libraries take one each
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: docs demo test test-all lint format types env clean

demo: .venv/.ready
	$(BIN)/motifs demo --out $(OUT) --seed $(SEED)

test: .venv/.ready
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n 2 -m "not slow"

test-all: .venv/.ready
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n 2

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.ready
	$(BIN)/mypy
	$(BIN)/mypy benchmarks/*.py

docs: .venv/.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir out/site

format: .venv/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

env: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[detect,dev]"
	touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build *.egg-info

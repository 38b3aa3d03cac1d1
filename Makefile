# Every target does its own set-up: on a fresh machine `make reproduce` creates .venv, installs and runs.
#   make reproduce   the laptop-scale study and its report        make check   lint, format, types, floors
#   make test        the tests                                    make smoke   every study, tiny, and the report

PYTHON ?= python3
VENV ?= .venv
# One thread a process: the studies and the tests run several processes side by side.
QUIET_THREADS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
TEST_WORKERS ?= 2
BIN := $(VENV)/bin

.PHONY: reproduce test check smoke clean
.DELETE_ON_ERROR:

reproduce: $(VENV)/.installed-alone
	$(BIN)/parrotlab reproduce

test: $(VENV)/.installed-test
	$(QUIET_THREADS) $(BIN)/python -m pytest -n $(TEST_WORKERS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

smoke: $(VENV)/.installed-test
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(BIN)/parrotlab run all --scale smoke --store "$$folder" && \
	$(BIN)/parrotlab report --scale smoke --store "$$folder" --output "$$folder/report"

# The stamp is as old as the last installation: a changed pyproject.toml or constraints.txt installs again.
$(VENV)/.installed-alone: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$*]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "parrotlab needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing):" \
	"try make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache

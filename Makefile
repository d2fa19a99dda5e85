# Everything below needs Python 3.11 or later and make; the rest is installed into $(VENV), pinned with hashes.
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= out/demo
PYTEST_ARGS ?=
BENCH_ARGS ?=

# The first Python of at least 3.11 that can make a virtual environment (Debian ships venv apart).
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$python"; break; }; done)

PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test torture array bucket ray damages soak fuzz simulate check format lock bench bench-scale bench-guard clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "No Python of 3.11 or later with its venv module was found." \
	"Install one (Debian, Ubuntu: python3.11 python3.11-venv), or name it: make PYTHON=/path/to/python3"; exit 1; } >&2
	@echo "Making $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv "$(VENV)"

# The package is installed in place: no dependency is looked up and no build environment is downloaded.
$(VENV)/.run-stamp: requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "Installing requirements/run.txt"
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --no-index --no-build-isolation --editable .
	@touch "$@"

$(VENV)/.dev-stamp: requirements/dev.txt $(VENV)/.run-stamp
	@echo "Installing requirements/dev.txt"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch "$@"

setup: $(VENV)/.dev-stamp  ## Install everything that development needs into .venv

define SHOW
import pipeline, sys
rows = pipeline.read(sys.argv[1]).sort_values("id").head()
rows = rows[["id", "status", "error_kind", "prompt_tokens", "caption"]].convert_dtypes().astype("string").fillna("")
print(rows.to_string(index=False, max_colwidth=64))
endef
export SHOW

run: $(VENV)/.run-stamp  ## Caption the samples in data/ on this machine's own endpoint; no key needed
	@$(BIN)/vision-batch run data/samples/manifest.csv -c demo -o "$(DEMO)" --emulator; code=$$?; \
	if [ $$code -eq 1 ]; then \
		echo "Exit code 1 is expected here: the sample 'broken' is cut short on purpose, and its row says why it failed."; \
	elif [ $$code -ne 0 ]; then exit $$code; fi
	@echo; $(BIN)/python -c "$$SHOW" "$(DEMO)"
	@echo; echo "The first rows; all are in $(DEMO)/data: pandas.read_parquet(\"$(DEMO)/data\")"
	@echo "next: $(BIN)/vision-batch run FOLDER -o rehearsal --emulator  (a folder of yours; no key, no cost)"

# Two more workers than cores: many tests wait, for a pause or for another process. Bytecode is kept whatever the
# environment says: tests start hundreds of processes, and each would compile the package anew.
test: $(VENV)/.dev-stamp  ## Run the tests (PYTEST_ARGS="-k sizing" for some of them)
	@cores="$$(getconf _NPROCESSORS_ONLN)"; parallel=""; \
	if [ "$$cores" -ge 2 ]; then parallel="-n $$((cores + 2)) --dist worksteal"; fi; \
	$(BIN)/python -m compileall -q pipeline || true; \
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $$parallel $(PYTEST_ARGS)

torture: $(VENV)/.dev-stamp  ## Kill runs two hundred times and prove that nothing paid for is lost; some minutes
	$(BIN)/python -m tests.torture --kills 200

array: $(VENV)/.dev-stamp  ## Kill shards of an array, merge them and compare with a single run; some minutes
	$(BIN)/python -m tests.array --images 20000 --kills 16

bucket: $(VENV)/.dev-stamp  ## Kill runs into a bucket, wipe their disk and prove that no sealed row is asked again; some minutes
	$(BIN)/python -m tests.bucket --kills 20

ray: $(VENV)/.dev-stamp  ## Kill workers, nodes and the driver of a run on a Ray cluster; some minutes
	$(BIN)/python -m tests.ray_cluster --images 20000

damages: $(VENV)/.dev-stamp  ## Damage two hundred output directories and prove that nothing undamaged is lost; some minutes
	$(BIN)/python -m tests.damages --cases 200

soak: $(VENV)/.dev-stamp  ## Answer 20,000 records of an endpoint that fails in every way at once; a quarter of an hour
	$(BIN)/python -m tests.soak --records 20000

fuzz: $(VENV)/.dev-stamp  ## Decode twenty thousand damaged images of each format in processes apart; a quarter of an hour
	$(BIN)/python -m tests.fuzz.run --files 20000

simulate: $(VENV)/.dev-stamp  ## Drive the scheduler through all simulated endpoints, five seeds each; an hour
	$(BIN)/python -m tests.limits.driver --seeds 5

check: $(VENV)/.dev-stamp  ## Lint, format, strict types and the floors; what CI runs before the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev-stamp  ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.dev-stamp  ## Pin anew what pyproject.toml asks for (LOCK_ARGS=--upgrade for newer versions)
	@[ -x $(BIN)/uv ] || $(PIP) install uv
	@for name in dev run; do \
		case $$name in dev) what="--group dev";; run) what="--constraint requirements/dev.txt";; esac; \
		$(LOCK) $(LOCK_ARGS) $$what pyproject.toml requirements/build.in -o requirements/$$name.txt || exit 1; \
		{ echo "# Made by 'make lock' from pyproject.toml and build.in."; cat requirements/$$name.txt; } >requirements/.new; \
		mv requirements/.new requirements/$$name.txt; \
		if grep -nE '^ *-?-(i|f|index|extra|find|trusted)|://' requirements/$$name.txt; then \
			echo "requirements/$$name.txt names a place of this machine" >&2; exit 1; fi; \
	done

bench: $(VENV)/.dev-stamp  ## Measure beside the alternatives; goes on where it was stopped (BENCH_ARGS="--only ours,bare")
	$(BIN)/python benchmarks/stages.py
	$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

bench-scale: $(VENV)/.dev-stamp  ## Measure 1,000 to a million records (BENCH_ARGS="--records 10000000" for more)
	$(BIN)/python benchmarks/scale.py $(BENCH_ARGS)

bench-guard: $(VENV)/.dev-stamp  ## Fail where a record costs more instructions than recorded; needs valgrind, some minutes
	$(BIN)/python benchmarks/guard.py $(BENCH_ARGS)

clean:  ## Remove what the targets above made, but for the benchmarks' images
	rm -rf "$(VENV)" out/demo dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

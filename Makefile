# One way in for everything. `make help` lists it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MODE   ?= dev

.DEFAULT_GOAL := help
.PHONY: help run stop test lint proto bench bench-guard kind-test docs lock clean deploy-kind-full

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

$(VENV)/run.ok: requirements/run.lock pyproject.toml proto/memory.proto infra/build/stubs.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/run.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/dev.ok: requirements/dev.lock $(VENV)/run.ok
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.lock
	@touch $@

proto: $(VENV)/dev.ok ## Rewrite the gRPC stubs from proto/
	@$(BIN)/python infra/build/stubs.py

lint: $(VENV)/dev.ok ## ruff, mypy strict, import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

run: $(VENV)/run.ok ## Start the memory daemon, fill it with real text of this machine, recall
	@$(BIN)/sfmctl daemon start
	@$(BIN)/sfmctl memory demo

stop: ## Stop the memory daemon that `make run` started
	@if [ -x $(BIN)/sfmctl ]; then $(BIN)/sfmctl daemon stop; else echo 'nothing was started'; fi

test: $(VENV)/dev.ok ## The whole test suite, without a cluster
	@$(BIN)/pytest -m "not kind"

kind-test: $(VENV)/dev.ok ## The tests on a real Kind cluster, `soma`, which they delete at their beginning and end
	@$(BIN)/pytest -m kind tests/kind $(PYTEST_ARGS)

bench: $(VENV)/dev.ok ## Measure the core, the store and the service (BENCH_ARGS=--quick for a few minutes)
	@$(BIN)/python -m bench.core $(BENCH_ARGS)
	@$(BIN)/python -m bench.store --quick
	@$(BIN)/python -m bench.service $(if $(findstring --quick,$(BENCH_ARGS)),--rows 20000 --seconds 1)

bench-guard: $(VENV)/dev.ok ## Fail when the core is slower than the committed baseline
	@$(BIN)/python -m bench.guard

deploy-kind-full: $(VENV)/run.ok ## All of the shared infrastructure on a local kind cluster (MODE=dev|test|…)
	@$(BIN)/sfmctl up --mode $(MODE) --yes

lock: ## Rewrite the locks from pyproject.toml's ranges
	@$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv
	@for n in run dev; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-index-url --no-annotate \
	  $$([ $$n = run ] && echo --extra daemon --extra cluster || echo --extra daemon --extra cluster --extra wordllama --extra test --extra lint --extra bench) \
	  pyproject.toml $$([ $$n = dev ] && echo requirements/build.in) -o requirements/$$n.lock; done
	@for n in sfmctl sfmd; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-index-url --no-annotate --generate-hashes \
	  $$([ $$n = sfmctl ] && echo --extra client --extra cluster || echo --extra daemon) pyproject.toml -o requirements/image-$$n.lock; done

docs: $(VENV)/dev.ok ## Rewrite the reference pages and the plots from the source
	@for page in docs/generate/*.py; do $(BIN)/python $$page; done
	@$(BIN)/python docs/plots/score.py

clean: ## Remove what the targets made, except the data directory
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build/out

# Two environments: .venv (Airflow, the library, the sandbox, the tests) and .venv-serving (the model servers: torch).
# TORCH_INDEX: where pip finds torch's CPU build if no wheel lies at hand; without it PyPI's build brings 3 GB of CUDA.
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
TORCH_INDEX ?=
MODEL ?= arithmetic
REASON ?= released from the command line

BIN := .venv/bin
SERVING := .venv-serving/bin
NO_LOCAL_BUILD := sed 's/^\(torch==[^+]*\)+.*/\1/'
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install checks demo up env down clean release bench-judge bench-server test lint lock

install: .venv/.installed .venv-serving/.installed
checks: install .venv-serving/.checks

.venv/.installed: requirements.lock pyproject.toml
	@echo "installing Airflow, the library and the sandbox into .venv (about 90 s) …"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -q -r requirements.lock
	@$(BIN)/pip install -q --no-deps -e .
	@touch $@

.venv-serving/.installed: model_image/requirements.lock
	@echo "installing the model servers' environment into .venv-serving (about 60 s) …"
	@$(PYTHON) -m venv .venv-serving
	@$(if $(TORCH_INDEX),$(SERVING)/pip install -q torch==2.13.0 --index-url $(TORCH_INDEX))
	@$(SERVING)/pip install -q -r model_image/requirements.lock
	@touch $@

.venv-serving/.checks: model_image/requirements-test.lock .venv-serving/.installed
	@$(SERVING)/pip install -q -r model_image/requirements-test.lock
	@touch $@

demo: install    ## releases good and bad revisions of a small model, and says what happened
	@$(BIN)/python -m benchmarks.demo

up: install      ## the sandbox, the guard and Airflow, to look around and release by hand
	@$(BIN)/python -m benchmarks.demo.world up

env:             ## eval "$(make -s env)": the command sluice, with the settings of what demo and up have started
	@$(BIN)/python -m benchmarks.demo.world env

down:            ## stops what demo and up have started, and nothing else
	@if [ -d .venv ]; then $(BIN)/python -m benchmarks.demo.world down; fi

clean: down      ## removes all that demo, up and test have made, but the environments
	@for state in var/engine var/test-engine; do [ ! -d $$state ] || $(BIN)/python -m sandbox.engine down --state $$state; done
	@rm -rf var

release: install ## make release MODEL=arithmetic REVISION=r3
	@$(BIN)/python -m benchmarks.demo.release --model "$(MODEL)" --revision "$(REVISION)" --reason "$(REASON)"

bench-judge: install ## the judge's error rates and speed beside other tools' decision rules (12 minutes)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.judge

bench-server: checks ## the server beside other ways to serve, a soak, a drain, a refresh of its image (50 minutes; needs Docker)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.server

test: checks lint
	@$(SERVING)/python -m pytest -q tests/serving
	@$(BIN)/python -m pytest -q

lint: checks
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@MYPYPATH=plugins $(BIN)/mypy -p sluice -p sandbox -p benchmarks
	@MYPYPATH=model_image $(SERVING)/mypy -p serving -p arithmetic
	@$(BIN)/lint-imports
	@$(BIN)/hadolint model_image/Dockerfile

lock:            ## renews all lock files from requirements.in, model_image/requirements.in and -test.in
	@rm -rf var/lock && mkdir -p var/lock
	@for part in . model_image; do \
	  $(PYTHON) -m venv var/lock/venv --clear && \
	  var/lock/venv/bin/pip install -q -r $$part/requirements.in && \
	  var/lock/venv/bin/pip freeze | $(NO_LOCAL_BUILD) > $$part/requirements.lock || exit 1; \
	done
	@var/lock/venv/bin/pip install -q -r model_image/requirements-test.in
	@var/lock/venv/bin/pip freeze | $(NO_LOCAL_BUILD) | grep -vxFf model_image/requirements.lock > model_image/requirements-test.lock
	@rm -rf var/lock

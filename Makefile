# Daily commands; CONTRIBUTING.md tells when to use which.
PYTHON ?= python3
ROUTER ?= traefik
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help venv test lint cluster-test demo cluster binaries generate bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

venv: $(BIN)/.installed  ## make .venv with davy, kubectl and all tools

$(BIN)/.installed: pyproject.toml lab/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Davylamp needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
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

binaries: venv  ## find or build etcd and the Kubernetes control plane (once, ~10 min on 2 cores)
	$(BIN)/davylab build

cluster-test: binaries  ## the tests on a real control plane
	$(BIN)/pytest -m cluster tests/cluster lab/tests

demo: binaries  ## a good and a bad release on a real control plane, live (KEEP=1 leaves it running)
	$(BIN)/python -m davylab.demo $(if $(KEEP),--keep)

cluster: binaries  ## leave a control plane running to play with; prints its kubeconfig (ROUTER=traefik or istio)
	$(BIN)/davylab up --state .lab --$(ROUTER) --detach

generate: venv  ## deploy/*.yaml from the code
	$(BIN)/python -m davylamp.api.crd > deploy/crds.yaml
	$(BIN)/davy install --print > deploy/install.yaml

bench: binaries  ## the figures of docs/performance.md
	$(BIN)/python -m bench

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# One-line doors; the work is in Snakefile (what depends on what), notebooks/ and lib/.
PYTHON ?= python3
BIN := .venv/bin
PROFILE ?= quick
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup figures reproduce apply publish test test-oracles test-backends lint sync report
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-15s%s\n", $$1, $$2}' Makefile

setup: .venv/installed  ## install everything into .venv
.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

figures: setup  ## run every notebook on the embedded quick profile: runs/quick
	snakemake --configfile config/$(PROFILE).yaml

reproduce: setup  ## the same at the paper's size, from nothing: runs/paper (hours)
	snakemake --configfile config/paper.yaml

RUN ?= apply
apply: setup  ## a trained network on your own CT: make apply DICOM=/path/to/folder [RUN=name, for runs/name]
	@test -d "$(DICOM)" || { echo 'Say where your CT is: make apply DICOM=/path/to/folder (found no folder "$(DICOM)").'; exit 2; }
	@test -e runs/quick/networks/top/model.keras || { echo 'There is no trained network yet: make figures first.'; exit 2; }
	snakemake --configfile config/apply.yaml --config run="$(RUN)" dicom="$$(realpath "$(DICOM)")" --forcerun prepare_cohort

publish: setup  ## copy a run's figures and tables into figures/ and tables/
	python -m lib.publish runs/$(PROFILE)

test: setup lint  ## all checks: lint, unit tests, notebooks, the whole chain on the smoke profile
	pytest

test-oracles: setup  ## compare the maps with other libraries and with finite differences (installs torch, captum, tf-keras-vis)
	$(BIN)/pip install --quiet -e ".[oracles]"
	pytest -m oracles
	KERAS_BACKEND=torch pytest -m oracles tests/test_oracles.py

test-backends: setup  ## run the engine's tests on JAX and torch
	$(BIN)/pip install --quiet -e ".[jax,oracles]"
	pytest -m backends

lint: setup
	ruff check .
	ruff format --check .

sync: setup  ## write each notebook's .ipynb from its .py
	jupytext --quiet --sync notebooks/*.py

report: setup  ## an HTML page for every notebook of the run
	jupyter nbconvert --to html runs/$(PROFILE)/notebooks/*.ipynb --output-dir runs/$(PROFILE)/report

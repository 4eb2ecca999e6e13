# One-line doors; the work is in Snakefile (what depends on what), notebooks/ and lib/.
PYTHON ?= python3
BIN := .venv/bin
PROFILE ?= quick
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup complete figures reproduce apply verify publish test test-oracles test-backends lint sync report lab
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-15s%s\n", $$1, $$2}' Makefile

setup: .venv/installed  ## install into .venv what the study needs
.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.txt -e .
	touch $@

complete: .venv/complete  ## install the rest as well: what tests, the book and JupyterLab need
.venv/complete: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

figures: setup  ## run every notebook on the embedded quick profile: runs/quick
	snakemake --configfile config/$(PROFILE).yaml

reproduce: setup  ## the same at the paper's size, from nothing: runs/paper (hours)
	snakemake --configfile config/paper.yaml

# The path goes through the environment as it was typed: neither make nor the shell looks into it.
RUN ?= apply
unexport DICOM RUN
apply: export CT_FOLDER := $(value DICOM)
apply: export CT_RUN := $(value RUN)
apply: setup  ## a trained network on your own CT: make apply DICOM=/path/to/folder [RUN=name, for runs/name]
	@test -e runs/quick/networks/top/model.keras || { echo 'There is no trained network yet: make figures first.'; exit 2; }
	@python -m lib.apply

verify: setup  ## every stored series of a run against its checksums: make verify PROFILE=apply
	python -m lib.verify runs/$(PROFILE)/cohort

publish: setup  ## copy a run's figures and tables into figures/ and tables/
	python -m lib.publish runs/$(PROFILE)

test: complete lint  ## all checks: lint, unit tests, notebooks, the whole chain on the smoke profile
	pytest

test-oracles: complete  ## compare the maps with other libraries and with finite differences (installs torch, captum, tf-keras-vis)
	$(BIN)/pip install --quiet -e ".[oracles]"
	pytest -m oracles
	KERAS_BACKEND=torch pytest -m oracles tests/test_oracles.py

test-backends: complete  ## run the engine's tests on JAX and torch
	$(BIN)/pip install --quiet -e ".[jax,oracles]"
	pytest -m backends

lint: complete
	ruff check .
	ruff format --check .

sync: setup  ## write each notebook's .ipynb from its .py
	jupytext --quiet --sync notebooks/*.py

report: complete  ## one site of the run: its notebooks, its claims, the modules: runs/quick/report/index.html
	python -m lib.report runs/$(PROFILE)

lab: complete  ## JupyterLab at the repository's root, with the kernel of .venv
	TF_CPP_MIN_LOG_LEVEL=3 jupyter lab --ServerApp.root_dir="$(CURDIR)" \
		--LabApp.default_url=/lab/tree/notebooks/01_prepare_cohort.ipynb $(LAB)

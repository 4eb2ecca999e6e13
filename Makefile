# Each target is one command. Snakefile says what depends on what; the work is done in notebooks/ and lib/.
PYTHON ?= python3
BIN := .venv/bin
PROFILE ?= quick
PIP := --quiet --disable-pip-version-check --no-compile
export PATH := $(CURDIR)/$(BIN):$(PATH)
export TF_ENABLE_ONEDNN_OPTS ?= 1

.PHONY: help setup complete figures study texts reproduce apply pacs verify publish test test-oracles test-backends lint sync report lab
help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-15s%s\n", $$1, $$2}' Makefile

setup: .venv/installed  ## install what the study needs into .venv
.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(PIP) --constraint requirements.txt -e .
	touch $@

complete: .venv/complete  ## install also what the tests, the book and JupyterLab need
.venv/complete: .venv/installed
	$(BIN)/pip install $(PIP) -r requirements.txt
	touch $@

figures: setup  ## run every notebook with the quick profile; results in runs/quick
	snakemake --configfile config/$(PROFILE).yaml

reproduce: setup  ## run every notebook at the paper's size; results in runs/paper (takes hours)
	snakemake --configfile config/paper.yaml

study: setup  ## run the published study: sixteen networks; results in runs/study (takes hours to days)
	snakemake --configfile config/study.yaml

texts: setup  ## reproduce the three related texts, after make figures; results in runs/quick
	snakemake --configfile config/$(PROFILE).yaml -- texts

# Paths go through the environment as they were typed: neither make nor the shell looks into them.
RUN ?= apply
unexport DICOM RUN NETWORK SEGMENT
apply: export CT_FOLDER := $(value DICOM)
apply: export CT_RUN := $(value RUN)
apply: export CT_NETWORK := $(value NETWORK)
apply: export CT_SEGMENT := $(value SEGMENT)
apply: setup  ## apply the trained network to your own CT: make apply DICOM=/path/to/folder [RUN=name; results in runs/name] [NETWORK=folder] [SEGMENT=1: outline kidneys]
	@python -m lib.apply

pacs: export CT_RUN := $(value RUN)
pacs: setup  ## write the maps of make apply as DICOM for a PACS, into private/: make pacs [RUN=name]
	@python -m lib.apply pacs

verify: setup  ## compare every stored series of a run with its checksums: make verify PROFILE=apply
	python -m lib.verify runs/$(PROFILE)/cohort

publish: setup  ## copy figures, tables and networks of a run into figures/, tables/ and weights/
	python -m lib.publish runs/$(PROFILE)

test: complete lint  ## run all checks: lint, unit tests, notebooks, and the whole workflow with the smoke profile
	pytest -n 2 --dist loadfile --no-loadscope-reorder

test-oracles: complete  ## compare the maps with other libraries and finite differences (installs torch, captum, tf-keras-vis)
	$(BIN)/pip install $(PIP) -e ".[oracles]"
	pytest -m oracles
	KERAS_BACKEND=torch pytest -m oracles tests/test_oracles.py

test-backends: complete  ## test the computation of the maps on JAX and torch
	$(BIN)/pip install $(PIP) -e ".[jax,oracles]"
	pytest -m backends -n 2

lint: complete
	ruff check .
	ruff format --check .

sync: setup  ## write the .ipynb of each notebook from its .py
	jupytext --quiet --sync notebooks/*.py

report: complete  ## build the book of a run from notebooks, claims and docstrings: runs/quick/report/index.html
	python -m lib.report runs/$(PROFILE)

lab: complete  ## open JupyterLab at the root of the repository, with the kernel of .venv
	TF_CPP_MIN_LOG_LEVEL=3 jupyter lab --ServerApp.root_dir="$(CURDIR)" \
		--LabApp.default_url=/lab/tree/notebooks/01_prepare_cohort.ipynb $(LAB)

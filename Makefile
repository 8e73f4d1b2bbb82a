# `make help` lists what there is. Everything installs itself into .venv; Python 3.11 or newer, git and make are enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := services training tests benchmarks
IMAGES ?=

LABEL_STUDIO ?= .venv-label-studio/bin/label-studio
TRITON ?= .venv-triton/triton/tritonserver
HELM ?= .helm/helm
PIP_AUDIT ?= .venv-audit/bin/pip-audit
IMAGES_WANTED ?=
TOGETHER := --numprocesses=auto --maxprocesses=4 --dist=loadfile

.PHONY: help demo test test-training label-studio triton helm images bundle sbom audit charts cluster-test images-test lint format bench soak protos clean
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.serving: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing what the services need into $(VENV) ..."
	$(PIP) --editable '.[serving,cpu]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing what the services, the tests and the checks need into $(VENV) ..."
	$(PIP) --editable '.[serving,cpu,release,cluster,test,dev]'
	@touch $@ $(VENV)/.serving

$(VENV)/.training: $(VENV)/.test
	$(PIP) --editable '.[training]' $(TORCH)
	@touch $@

demo: $(VENV)/.serving ## Read the sample hands, or IMAGES=DIR, through the real services; prints where the report is
	$(BIN)/boneage demo $(if $(IMAGES),--images $(IMAGES))

test: $(VENV)/.test lint ## Check the code and run every test that this machine can run
	$(BIN)/python -m pytest $(TOGETHER) $(foreach part,contract integration training,--ignore-glob='tests/$(part)/*')
	$(BIN)/python -m pytest tests/contract tests/integration
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TOGETHER) tests/training

test-training: $(VENV)/.training test ## The same with torch, for the tests of the networks and the training

label-studio: $(LABEL_STUDIO) ## Install Label Studio, for its tests, into an environment of its own
$(LABEL_STUDIO):
	$(PYTHON) -m venv $(@D)/..
	$(@D)/python -m pip install --quiet --disable-pip-version-check 'label-studio==1.23.2'

triton: $(TRITON) ## Install NVIDIA Triton for the CPU, for its tests, into an environment of its own
$(TRITON): deploy/triton/assemble.py deploy/triton/onnxruntime/model.py
	$(PYTHON) -m venv .venv-triton
	.venv-triton/bin/python -m pip install --quiet --disable-pip-version-check \
	  'nvidia-pytriton==0.7.0' 'onnxruntime==1.23.2'
	.venv-triton/bin/python deploy/triton/assemble.py $(@D)

helm: $(HELM) ## Install helm and kubectl, for the charts and their tests, into .helm
$(HELM): deploy/helm.py
	$(PYTHON) deploy/helm.py $(@D)

images: ## Build the container images, or IMAGES_WANTED="serving release"; docs/images.md names the other variables
	$(PYTHON) -m deploy.images $(IMAGES_WANTED)

bundle: helm ## Put images, charts and their digests into build/bundle, for a hospital without internet
	rm -rf build/bundle
	HELM=$(HELM) $(PYTHON) -m deploy.bundle build/bundle $(IMAGES_WANTED)

sbom: ## List what the images hold, as CycloneDX and as pip's lines, in build/sbom
	rm -rf build/sbom
	$(PYTHON) -m deploy.sbom build/sbom $(IMAGES_WANTED)

audit: sbom $(PIP_AUDIT) ## Ask for known vulnerabilities of what the images hold; fails where nobody could be asked
	$(PYTHON) -m deploy.audit $(PIP_AUDIT) build/sbom/*.txt
$(PIP_AUDIT):
	$(PYTHON) -m venv $(@D)/..
	$(@D)/python -m pip install --quiet --disable-pip-version-check 'pip-audit==2.10.1'

charts: $(VENV)/.test helm ## Write what comes of the charts anew: schemas, examples, the table of who may call whom
	$(BIN)/python -m deploy.chart_schemas charts/boneage charts/boneage-training
	$(BIN)/python -m deploy.chart_examples $(HELM) charts/boneage charts/boneage-training
	$(BIN)/python docs/tables.py

cluster-test: $(VENV)/.training helm ## Build the images, install everything on the cluster of KUBECONFIG and disturb it; docs/kubernetes.md
	$(PYTHON) -m deploy.images
	$(BIN)/python -m pytest -s tests/cluster

images-test: $(VENV)/.test ## Build the images, look into them and run them; needs Docker, docs/images.md
	$(PYTHON) -m deploy.images
	$(BIN)/python -m pytest tests/images

lint: $(VENV)/.test ## ruff, mypy --strict, import contracts, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos

format: $(VENV)/.test ## Put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.test ## Speed and memory of the services against the same work called directly; prints a table and JSON
	$(BIN)/python -m benchmarks.speed --out build/speed.json
	$(if $(DATA),$(BIN)/python -m benchmarks.accuracy --data $(DATA) --out build/accuracy.json)

soak: $(VENV)/.test triton ## What the serving side stands, with real Tritons: 45 minutes; RADIOGRAPHS=DIR for your own
	$(BIN)/python -m benchmarks.soak --out build/soak.json $(if $(RADIOGRAPHS),--radiographs $(RADIOGRAPHS))

protos: $(VENV)/.test ## Generate protos/gen from protos/boneage
	$(BIN)/python protos/generate.py

clean: ## Remove what was installed and built
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

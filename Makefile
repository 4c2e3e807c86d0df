# Everything from nothing: `make demo` and `make test` need Python 3.11 or newer and make, and install the rest into
# .venv (all three packages, editable) and .envs (one environment per package, with its own dependencies only).

VENV := .venv
# What environments are made with; the Python of .venv where there is one.
PYTHON ?= $(if $(wildcard $(VENV)/bin/python),$(VENV)/bin/python,python3)
OUT ?= .
BIN := $(VENV)/bin
# Nothing is compiled beforehand: what is imported is a small part of torch and the others.
PIP := -m pip install --quiet --disable-pip-version-check --no-compile --constraint .ci/constraints.txt
PYTEST := -m pytest -n 2 --dist worksteal $(SLOW)
# One thread per test process: two processes with two threads each would wait for each other on two cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Where this is set, torch is compiled anew by each of the hundreds of processes that tests start, tests by each pytest.
unexport PYTHONDONTWRITEBYTECODE
# --slow: also the tests that tests/slow.txt names.
SLOW ?=
# Parts that take turns waiting (for a process, an answer, a disk) are run side by side. Where make can do it, each is
# shown when it ends.
JOBS ?= 2
SIDE_BY_SIDE = +@$(MAKE) --no-print-directory --jobs $(JOBS) $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
PACKAGES := shared-schema pico-train pico-analyze
PROJECTS := $(PACKAGES:%=%/pyproject.toml) shared-schema/conformance/pyproject.toml
REQUIREMENTS := .ci/constraints.txt .ci/dev.txt

.DEFAULT_GOAL := help
.PHONY: help install interpreter demo test test-all test-schema test-train test-analyze test-together test-browser web web-check lint format bench bench-gpu build conformance docs fuzz mutants minimum sizes release release-dry-run test-released test-ecosystem clean docs-browser reference lint-types lint-rest $(PACKAGES:%=minimum-%)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## make .venv with all three packages, editable; nothing if already done

# A PYTHON that does not run, or is another than that of the environments, is told of before anything is done.
interpreter:
	@.ci/interpreter "$(PYTHON)" $(VENV) >/dev/null

$(VENV)/.installed: $(PROJECTS) $(REQUIREMENTS) | interpreter
	@echo "installing into $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || "$$(.ci/interpreter "$(PYTHON)")" -m venv $(VENV)
	@$(BIN)/python $(PIP) --requirement .ci/dev.txt
	@$(BIN)/python $(PIP) --no-build-isolation $(PACKAGES:%=--editable %) --editable shared-schema/conformance
	@touch $@

# An environment that has one package, its own dependencies and what its tests need: nothing else can be imported.
# All of them are made anew when a dependency of any package changes: they stand on one another.
.envs/schema/.installed: $(PROJECTS) shared-schema/tests/requirements.txt $(REQUIREMENTS) | interpreter
	@echo "installing into .envs/schema"
	@test -x .envs/schema/bin/python || "$$(.ci/interpreter "$(PYTHON)")" -m venv .envs/schema
	@.envs/schema/bin/python $(PIP) --editable shared-schema --requirement shared-schema/tests/requirements.txt
	@touch $@

.envs/analyze/.installed: $(PROJECTS) pico-analyze/tests/requirements.txt $(REQUIREMENTS) | interpreter
	@echo "installing into .envs/analyze"
	@test -x .envs/analyze/bin/python || "$$(.ci/interpreter "$(PYTHON)")" -m venv .envs/analyze
	@.envs/analyze/bin/python $(PIP) --editable shared-schema --editable pico-analyze --editable shared-schema/conformance --requirement pico-analyze/tests/requirements.txt
	@touch $@

demo: install ## train a small model on Python's own library, then draw what changed inside it, and make its report
	$(BIN)/pico-train run --out $(OUT)/runs
	$(BIN)/pico-analyze compute cka $(OUT)/runs/demo --out $(OUT)/analysis
	$(BIN)/pico-analyze report $(OUT)/runs/demo --analyses $(OUT)/analysis --out $(OUT)/analysis/demo/report.html

test: install .envs/schema/.installed .envs/analyze/.installed ## all tests, each package in an environment of its own
	@echo "each part is shown when it ends"
	$(SIDE_BY_SIDE) test-train test-analyze test-schema test-together

test-all: ## the same with the slow tests, and those between the packages
	$(MAKE) test SLOW=--slow
	$(MAKE) conformance SLOW=--slow

test-schema: .envs/schema/.installed install ## tests of the contract, with pydantic alone; then against the libraries
	cd shared-schema && $(ONE_THREAD) ../.envs/schema/bin/python -m pytest $(SLOW:--slow=--hypothesis-profile=thorough)
	cd shared-schema && $(ONE_THREAD) ../$(BIN)/python -m pytest tests/test_tensor_header.py tests/test_digests.py

test-analyze: .envs/analyze/.installed install ## tests of pico-analyze, without torch; then those of its torch extra
	cd pico-analyze && $(ONE_THREAD) ../.envs/analyze/bin/python $(PYTEST) --ignore tests/with_torch
	cd pico-analyze && $(ONE_THREAD) ../$(BIN)/python $(PYTEST) tests/with_torch

test-train: install ## tests of pico-train
	cd pico-train && $(ONE_THREAD) ../$(BIN)/python $(PYTEST)

test-together: install ## train a very small model and analyze it, through the installed commands
	cd shared-schema/conformance && $(ONE_THREAD) ../../$(BIN)/python -m pytest tests/test_end_to_end.py tests/test_caches.py

conformance: install ## wheels of both tools in environments of their own, revisions between them; every snippet of the documents; damaged runs
	$(ONE_THREAD) $(BIN)/python shared-schema/conformance/across.py --constraints .ci/constraints.txt -- $(SLOW)

test-released: install ## each package as it was last released, built from its tag, with the others as they are here
	$(ONE_THREAD) $(BIN)/python shared-schema/conformance/across.py --released --environments .envs/released --constraints .ci/constraints.txt

# The front end of the report needs node 20 and npm, and its tests a Chromium. Without them a target says so and ends
# well; not where REQUIRE_BROWSER is set.
WEB := pico-analyze/web
SKIPPED = { echo "$@: skipped: $(1)"; test -z "$$REQUIRE_BROWSER"; exit; }
WITH_NODE = command -v npm >/dev/null || $(call SKIPPED,no npm is installed (apt-get install npm)); cd $(WEB) && \
	  { npm ci --no-audit --no-fund --silent --fetch-retries=1 --fetch-timeout=60000 || $(call SKIPPED,npm could not fetch what package-lock.json names); }

web: ## build the report's front end into the package
	@$(WITH_NODE) && npm run --silent build

web-check: ## tests of the front end alone; whether the build in the package is that of its sources
	@$(WITH_NODE) && npm run --silent test && \
	  REPORT_ASSETS="$(CURDIR)/.envs/report-assets" npm run --silent build && \
	  diff -r "$(CURDIR)/.envs/report-assets" ../src/pico_analyze/output/report/assets && echo "the build is that of its sources"

test-browser: install ## the report in a headless Chromium, which is installed where that is allowed
	@$(WITH_NODE) && { ./browser/chromium >/dev/null || \
	  $(call SKIPPED,no Chromium is installed (apt-get install chromium; or name one in CHROMIUM)); } && \
	  REPORT_PAGES="$(CURDIR)/.envs/report-pages"; export REPORT_PAGES && \
	  "$(CURDIR)/$(BIN)/python" browser/pages.py "$$REPORT_PAGES" && CHROMIUM="$$(./browser/chromium)" npm run --silent test:browser

lint: install ## ruff, mypy --strict, import-linter, floors, changelogs, dependencies; workflows, templates, citation
	$(SIDE_BY_SIDE) lint-types lint-rest

lint-types:
	$(BIN)/mypy --strict shared-schema/src pico-train/src pico-analyze/src
	MYPYPATH=docs/building $(BIN)/mypy --strict --explicit-package-bases $(filter-out %/formulas.py,$(wildcard docs/building/*.py))

lint-rest:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --config .importlinter
	$(BIN)/python .ci/floors.py
	$(BIN)/python .ci/changelog.py $(if $(BASE),--base $(BASE))
	for package in $(PACKAGES); do (cd $$package && ../$(BIN)/deptry --no-ansi src) || exit 1; done
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --no-progress --quiet .github/workflows
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/fault.yml .github/ISSUE_TEMPLATE/wish.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml

format: install ## let ruff format everything
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## all benchmarks, one after the other; prints tables, compares with peers
	$(BIN)/python pico-train/benchmarks/all.py
	$(BIN)/python pico-analyze/benchmarks/all.py

bench-gpu: install ## training on one GPU, against transformers; its tests first (needs a CUDA build of torch)
	$(BIN)/python pico-train/benchmarks/gpu.py --check
	cd pico-train && ../$(BIN)/python -m pytest -n 4 tests/training/test_cuda.py
	$(BIN)/python pico-train/benchmarks/gpu.py

fuzz: install ## damage golden runs in 2,000 ways and put them through every command (half an hour)
	$(ONE_THREAD) $(BIN)/python -m pico_conformance.fuzz --mutations 2000

# lm-eval, minicons, peft, TransformerLens and nnsight bring many packages: they have an environment of their own.
.envs/ecosystem/.installed: $(PROJECTS) pico-train/tests/ecosystem-requirements.txt $(REQUIREMENTS) | interpreter
	@echo "installing into .envs/ecosystem"
	@test -x .envs/ecosystem/bin/python || "$$(.ci/interpreter "$(PYTHON)")" -m venv .envs/ecosystem
	@.envs/ecosystem/bin/python $(PIP) --editable shared-schema --editable pico-train --editable pico-analyze --editable shared-schema/conformance pytest pytest-xdist hypothesis --requirement pico-train/tests/ecosystem-requirements.txt
	@touch $@

.envs/places/.installed: $(PROJECTS) pico-analyze/tests/requirements.txt pico-analyze/tests/ecosystem-requirements.txt $(REQUIREMENTS) | interpreter
	@echo "installing into .envs/places"
	@test -x .envs/places/bin/python || "$$(.ci/interpreter "$(PYTHON)")" -m venv .envs/places
	@.envs/places/bin/python $(PIP) --editable shared-schema --editable pico-analyze --editable shared-schema/conformance --requirement pico-analyze/tests/requirements.txt --requirement pico-analyze/tests/ecosystem-requirements.txt
	@touch $@

test-ecosystem: .envs/ecosystem/.installed .envs/places/.installed ## a checkpoint in lm-eval, minicons, peft, TransformerLens and nnsight; probes against TransformerLens; checkpoints in S3
	cd pico-train && $(ONE_THREAD) ../.envs/ecosystem/bin/python -m pytest tests/ecosystem
	cd pico-analyze && $(ONE_THREAD) ../.envs/ecosystem/bin/python -m pytest tests/ecosystem/test_transformer_lens.py
	cd pico-analyze && $(ONE_THREAD) ../.envs/places/bin/python -m pytest tests/ecosystem/test_s3.py

# All of them take hours; ONLY="metrics cca" or ONLY="training --sample 10" is a part.
mutants: install ## put small faults into the code and see that the tests notice
	@$(BIN)/python $(PIP) --requirement .ci/mutants/requirements.txt
	$(ONE_THREAD) $(BIN)/python .ci/mutants $(ONLY) --report .ci/mutants/report

build: install ## wheels and source archives of the three packages, into dist
	for package in $(PACKAGES); do $(BIN)/python -m build --no-isolation --outdir dist $$package || exit 1; done

# PACKAGE=pico-schema, pico-train or pico-analyze.
release-dry-run: install ## PACKAGE=pico-analyze: build and check one package as a release does, into dist; publish nothing
	$(BIN)/python .ci/release.py $(or $(PACKAGE),$(error say which: PACKAGE=pico-schema, pico-train or pico-analyze)) --dry-run

release: install ## PACKAGE=… TAG=…: the same, refusing what would make the release of this tag wrong
	$(BIN)/python .ci/release.py $(or $(PACKAGE),$(error say which: PACKAGE=pico-schema, pico-train or pico-analyze)) --tag "$(TAG)"

sizes: install ## what pico-analyze and its dependencies weigh, installed by pip into an environment of their own
	@rm -rf .envs/sizes && $(BIN)/python -m venv .envs/sizes
	@.envs/sizes/bin/python -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt ./shared-schema ./pico-analyze
	@$(BIN)/python .ci/sizes.py .envs/sizes

# Lowest versions that the metadata declares. Of torch the one of .ci/constraints.txt: the first that has a build for
# processors alone in every index that is in use here. What the tests compare with is not held down.
LOWEST = $(BIN)/python .ci/lowest.py $(1) >.envs/lowest-$(1).txt && grep -E '^(torch|pytest)==' .ci/constraints.txt >>.envs/lowest-$(1).txt
PIP_LOWEST = -m pip install --quiet --disable-pip-version-check --no-compile --prefer-binary --constraint .envs/lowest-$(1).txt

.envs/lowest-%/.installed: $(PROJECTS) .ci/lowest.py $(REQUIREMENTS) | install
	@echo "installing into .envs/lowest-$*"
	@rm -rf .envs/lowest-$* && $(BIN)/python -m venv .envs/lowest-$* && $(call LOWEST,$*)
	@.envs/lowest-$*/bin/python $(call PIP_LOWEST,$*) --editable shared-schema --editable $(if $(filter pico-schema,$*),shared-schema,$*) \
	  $(if $(filter pico-schema,$*),,--editable shared-schema/conformance) --requirement $(if $(filter pico-schema,$*),shared-schema,$*)/tests/requirements.txt
	@touch $@

minimum: $(PACKAGES:%=minimum-%) ## the tests with the lowest versions that each package declares

minimum-shared-schema: .envs/lowest-pico-schema/.installed
	cd shared-schema && $(ONE_THREAD) ../.envs/lowest-pico-schema/bin/python -m pytest

minimum-pico-analyze: .envs/lowest-pico-analyze/.installed
	cd pico-analyze && $(ONE_THREAD) ../.envs/lowest-pico-analyze/bin/python $(PYTEST) --ignore tests/with_torch

minimum-pico-train: .envs/lowest-pico-train/.installed
	cd pico-train && $(ONE_THREAD) ../.envs/lowest-pico-train/bin/python $(PYTEST)

reference: install ## write the reference pages anew from the code
	$(BIN)/python -m pico_train.cli.reference pico-train/docs
	$(BIN)/python -m pico_analyze.cli.reference pico-analyze/docs
	$(BIN)/python -m pico_conformance.compatibility shared-schema/docs
	$(BIN)/python docs/building/house.py

.envs/docs/.installed: docs/building/requirements.txt $(REQUIREMENTS) | interpreter
	@echo "installing into .envs/docs"
	@test -x .envs/docs/bin/python || "$$(.ci/interpreter "$(PYTHON)")" -m venv .envs/docs
	@.envs/docs/bin/python $(PIP) --requirement docs/building/requirements.txt
	@touch $@

# What the tutorial, the gallery and the notebook make is kept in .envs/docs/made until their code or the packages' changes.
docs: reference .envs/docs/.installed ## build the site into site, strictly, links checked; runs the tutorial (a few minutes)
	$(BIN)/python docs/building/assemble.py .envs/docs/pages --made .envs/docs/made
	NO_MKDOCS_2_WARNING=1 .envs/docs/bin/python -m mkdocs build --quiet --clean --config-file docs/mkdocs.yml
	$(BIN)/python docs/building/check.py site --pages .envs/docs/pages

docs-browser: docs ## look at every page of the site in a headless Chromium, on a desk and on a phone
	@$(WITH_NODE) && { ./browser/chromium >/dev/null || \
	  $(call SKIPPED,no Chromium is installed (apt-get install chromium; or name one in CHROMIUM)); } && \
	  CHROMIUM="$$(./browser/chromium)" node "$(CURDIR)/docs/building/look.mjs" "$(CURDIR)/site"

clean: ## remove environments, builds and caches; runs and analyses stay
	rm -rf $(VENV) .envs dist site .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name .pytest_cache -type d -prune -exec rm -rf {} +

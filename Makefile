# Two commands from a machine with Python 3.11 or newer, pip and make: `make reproduce` and `make test`.
# SCALE=quick|laptop|paper picks config/SCALE.yaml, CORES limits the jobs, PYTHON names another interpreter.
SCALE ?= quick
CORES ?= all
PYTHON ?= python3

STAMP := .venv/installed
IN_ENV := PATH="$(CURDIR)/.venv/bin:$$PATH"
MODULE := $(IN_ENV) PYTHONPATH=src:. python -m
# The shell reads the variables, not their text: nothing in them can become a command.
export SCALE CORES TARGETS TAG OUT

.DEFAULT_GOAL := help
.PHONY: help laptop render restore watch article docs config reproduce report test publish verify bench clean install check lock known-scale campaign campaign-status campaign-so-far

help:  ## these lines
	@PYTHONPATH=src:. $(if $(wildcard .venv/bin/python),.venv/bin/python,$(PYTHON)) -m publishing.commands help

# The launcher holds a lock while it runs, so that a second start is refused and a killed one goes on.
reproduce: $(STAMP)  ## every figure, table, notebook and verdict, then the report
	@$(MODULE) publishing.commands estimate "$$SCALE"
	@$(MODULE) experiments.reproduce "$$SCALE" --cores "$$CORES"

laptop: $(STAMP)  ## exactly the runs that are published at laptop: real data on a CPU
	@$(MODULE) publishing.commands estimate laptop
	@$(MODULE) experiments.reproduce laptop --cores "$$CORES" --targets $$($(MODULE) publishing.commands targets laptop)

watch: $(STAMP)  ## every training that runs: where it is and how long it will take
	@$(MODULE) experiments.watch

render: $(STAMP) known-scale  ## figures, tables, claims, notebooks and article of the runs that are in results/SCALE; trains none
	$(IN_ENV) snakemake --configfile config/$(SCALE).yaml --config render=1 --cores "$$CORES" --rerun-triggers mtime

restore: $(STAMP) known-scale  ## copy what is published at SCALE back to results/SCALE, to add runs to it
	@$(MODULE) publishing.restore "$$SCALE"

article: $(STAMP) known-scale  ## the article as a PDF, from what is published at SCALE
	$(MODULE) publishing.article results/published/$(SCALE) --out results/$(SCALE)

docs: $(STAMP)  ## the site, from what is published; open results/site/html/index.html
	@.venv/bin/python -c "import sys, importlib.util as u; sys.exit(None in map(u.find_spec, sys.argv[1:]))" \
	myst_nb pydata_sphinx_theme latex2mathml || \
	.venv/bin/python -m pip install -q -c constraints.txt -e '.[docs]'
	$(MODULE) publishing.site results/site

report: $(STAMP) known-scale  ## one page with everything that the scale's last run made, and the run times
	@test -f "results/$$SCALE/front.rst" && \
	$(IN_ENV) snakemake --configfile config/$(SCALE).yaml --report results/$(SCALE)/report.html || \
	{ printf "error: results/%s lacks what the report shows; make reproduce SCALE=%s makes it\n" "$$SCALE" "$$SCALE" >&2; exit 2; }
	cd results/$(SCALE) && rm -f report.zip && "$(CURDIR)/.venv/bin/python" -m zipfile -c report.zip report.html
	$(MODULE) publishing.runtimes results/$(SCALE)
	@echo "results/$(SCALE)/report.html holds everything; results/$(SCALE)/runtimes.md says how long it took"

# The tests of what has no whole experiment, proof or pipeline in it.
UNIT := tests/test_layout.py tests/test_make.py tests/test_fuzz.py tests/core tests/system tests/reporting tests/publishing \
	tests/multitask/runs tests/multitask/data tests/multitask/dense tests/experiments/test_config.py
check: $(STAMP)  ## style, types and unit tests
	$(IN_ENV) ruff check .
	$(IN_ENV) ruff format --check .
	$(IN_ENV) mypy
	OMP_NUM_THREADS=1 $(IN_ENV) pytest -n 2 --dist loadfile -m "not slow and not long" $(UNIT)

test: $(STAMP)  ## style, types, workflow and tests
	$(IN_ENV) ruff check .
	$(IN_ENV) ruff format --check .
	$(IN_ENV) mypy
	$(IN_ENV) snakefmt --check Snakefile experiments notebooks proofs report
	OMP_NUM_THREADS=1 $(IN_ENV) pytest -n 2 --dist loadfile --no-loadscope-reorder

publish: $(STAMP) known-scale  ## copy the scale's results into results/published/, with a manifest, and its tables into the README
	$(MODULE) publishing.publish $(SCALE) $${PARTIAL:+"$$PARTIAL"}
	$(MODULE) publishing.readme

# The copy leaves out the results, so that every rule runs again. A pipe would hide that the first tar failed.
verify: $(STAMP)  ## rerun quick elsewhere and compare it with what is published
	@copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && \
	tar -cf "$$copy/.tar" --exclude=./.git --exclude=./.venv --exclude=./.snakemake --exclude=./data --exclude=./results . && \
	tar -xf "$$copy/.tar" -C "$$copy" && rm "$$copy/.tar" && \
	(cd "$$copy" && $(IN_ENV) snakemake --cores "$$CORES") && \
	$(MODULE) publishing.verify "$$copy/results/quick" results/published/quick

# LibMTL without its dependencies: it asks for a torchvision that nothing here uses. Without it, its columns are empty.
# glibc keeps freed memory of any size: page faults of fresh memory would be timed with every code.
bench: export MALLOC_MMAP_THRESHOLD_ = 1073741824
bench: export MALLOC_TRIM_THRESHOLD_ = 4294967296
bench: $(STAMP)  ## compare time and memory with other implementations; OUT=results/published/benchmarks publishes
	-$(LOCKED) -q --no-deps -r requirements/bench.txt
	$(MODULE) benchmarks.run --out "$${OUT:-results/benchmarks}"
	$(MODULE) benchmarks.rl --out "$${OUT:-results/benchmarks}"
	$(MODULE) benchmarks.precision --out "$${OUT:-results/benchmarks}"

# Trains from a clone at a tagged commit next to the project, two runs at a time at low priority; stopped, it goes on where
# it was. TARGETS="metaworld_mt10/sac/0-4 triad" names runs, TAG=name another (or a new) tag.
campaign campaign-status campaign-so-far: SCALE = laptop
campaign: $(STAMP)  ## long runs: train what the scale's config asks for; campaign-status says how far it is
	@$(MODULE) experiments.campaign "$$SCALE" $$TARGETS --tag "$$TAG"

campaign-status: $(STAMP)  ## how far the long runs are
	@$(MODULE) experiments.campaign "$$SCALE" --tag "$$TAG" --status

campaign-so-far: $(STAMP)  ## write the runs that are not done as well, so that they can be published as unfinished
	@$(MODULE) experiments.campaign "$$SCALE" $$TARGETS --tag "$$TAG" --so-far

# SCALE must name a config: an empty one, or one with a path, would delete files that no rule wrote.
known-scale:
	@case "$$SCALE" in ""|*[!a-z0-9_]*) false;; esac && test -f "config/$$SCALE.yaml" && test "$$SCALE" != schema || \
	{ printf "error: no scale '%s': SCALE names a file config/SCALE.yaml\n" "$$SCALE" >&2; exit 2; }

# The package index must be within reach, and uv on the path (pip install uv).
lock:  ## write requirements/ again from pyproject.toml and constraints.txt
	python3 requirements/lock.py

clean: known-scale  ## remove what the scale's rules wrote, checkpoints too; published results stay
	rm -rf "results/$$SCALE" .pytest_cache .mypy_cache .ruff_cache .hypothesis

config: $(STAMP) known-scale  ## print the complete configuration of the scale, with the source of every setting
	@$(MODULE) experiments.config config/$(SCALE).yaml

install: $(STAMP)  ## only make .venv

# Every file is compared with its sha256 (requirements/). Where pip finds torch's CPU build without the index, that is
# taken; else the index's default build.
LOCKED := .venv/bin/python -m pip install --require-hashes
$(STAMP): pyproject.toml constraints.txt $(wildcard requirements/build.txt requirements/torch*.txt requirements/locked.txt)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"error: Python 3.11 or newer is needed, $(PYTHON) is {v[0]}.{v[1]}; name another one: make PYTHON=python3.12")'
	@test -x .venv/bin/pip || $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	$(LOCKED) --no-deps -r requirements/build.txt
	@torch=requirements/torch.txt; \
	if $(LOCKED) -q --dry-run --no-index --no-deps -r requirements/torch-cpu.txt > /dev/null 2>&1; then torch=requirements/torch-cpu.txt; fi; \
	set -x; $(LOCKED) --no-build-isolation -r $$torch -r requirements/locked.txt
	.venv/bin/python -m pip install --no-deps --no-build-isolation -e .
	@touch $(STAMP)

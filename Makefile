# Two commands: `make serve` and `make test`. The rest is for people who work on Tessera itself.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TORCH := torch==2.13.0
FIXED := pyproject.toml constraints.txt

.PHONY: serve test lint bench demo-bundle openapi clean

serve: $(VENV)/.serve  ## Install what serving needs and serve the demo bundle on http://127.0.0.1:8000
	$(BIN)/tessera serve

# Two processes, not one a core: either may take 6 GB, and servers and trainings of tests are processes beside them.
# A file stays in one of them with what it has set up; long files begin first (tests/conftest.py).
test: $(VENV)/.dev lint  ## Install everything, then check and test everything
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev  ## Serving against the bare graphs, and training against a plain program, as JSON and a plot
	$(BIN)/tessera bench serve --out bench-results/serve.json --plot bench-results/serve.png
	$(BIN)/tessera bench train --batch 4 --steps 3 --out bench-results/train.json

# Five seeds, two at a time with a thread each; the bundle is seed 0, the card has the mean over all of them.
SEEDS := 0 1 2 3 4
demo-bundle: $(VENV)/.dev  ## Make the demo bundle from scratch: generate, train, score, export
	rm -rf $(SEEDS:%=runs/demo-%)
	$(BIN)/tessera data prepare demo
	printf '%s\n' $(SEEDS) | xargs -P 2 -I SEED \
		$(BIN)/tessera train demo --seed SEED --threads 1 --out runs/demo-SEED
	$(BIN)/tessera evaluate $(SEEDS:%=runs/demo-%) --keep 64 --out runs/demo-scores.json
	$(BIN)/tessera export runs/demo-0 --keep 64 --scores runs/demo-scores.json --out tessera/demo

openapi: $(VENV)/.dev  ## Freeze the HTTP contract again after a change that was meant
	$(BIN)/python -m service.openapi

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: $(VENV)/bin/python $(FIXED)
	@echo 'installing what serving needs into $(VENV), about a minute ...'
	@$(PIP) -e '.[cpu]'
	@touch $@

# torch comes first and alone: the exact version has a build without CUDA where one is offered.
$(VENV)/.dev: $(VENV)/bin/python $(FIXED)
	@echo 'installing everything into $(VENV), a few minutes ...'
	@$(PIP) $(TORCH)
	@$(PIP) -e '.[cpu,hub,otel,train,dev]'
	@touch $@ $(VENV)/.serve

# What a newcomer, CI and a release run. `make demo` and `make test` set up what they need in .venv.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 && { command -v $$p; break; }; done)
BIN := .venv/bin

.PHONY: help demo test lint docs bench lock clean
help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# The stamp is made last, so an interrupted installation is begun again.
.venv/ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "inzitu needs Python >= 3.12: install one, or say where it is: make PYTHON=/path/to/python3.13" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

demo: .venv/ready  ## the main job on real pixels, start to end; leaves demo/report.json
	$(BIN)/inzitu demo --dir demo

test: .venv/ready  ## the test suite (TESTS=path narrows it)
	$(BIN)/python -m pytest $(TESTS)

lint: .venv/ready  ## ruff, mypy strict, the import laws
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/ready  ## the documentation, warnings are errors; docs/_build/html/index.html
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

bench: .venv/ready  ## the benchmarks, each beside its peer (BENCH=name narrows it)
	$(BIN)/python -m benchmarks $(BENCH)

lock:  ## requirements.lock anew, with hashes and without any index address (needs uv)
	uv pip compile -q --universal --python-version 3.12 --generate-hashes --no-header --extra dev pyproject.toml -o requirements.lock

clean:  ## what the targets above made
	rm -rf .venv demo docs/_build .pytest_cache .mypy_cache .ruff_cache

# Everything a developer does. Python 3.11 or newer is all that has to be there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
# The services whose routes have an OpenAPI document beside them.
DESCRIBED := billing payments subscriptions gateway

define NEW_ENOUGH
import sys
if sys.version_info < (3, 11):
    found = sys.version.split()[0]
    sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + found + "; name another one: make setup PYTHON=python3.12")
endef
export NEW_ENOUGH

# Where a machine forbids bytecode, each of the many processes that a stack or the tests start would compile all of its
# imports again: 3 s instead of 1 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test fuzz bench compare lint up down generate lock format

# The environment, exactly as locked. Done again only when the lock has changed. One that was only begun, by a Python
# without `ensurepip` or until Ctrl-C, is made anew.
setup: $(VENV)/.locked

$(VENV)/.locked: requirements.lock pyproject.toml contracts/pyproject.toml
	@test -e $@ -a -x $(BIN)/python || $(PYTHON) -c "$$NEW_ENOUGH"
	test -e $@ -a -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --python $(VENV) --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(VENV) --no-deps -e . -e contracts
	touch $@

# PostgreSQL, Kafka, all services, demo tenants, simulated AI usage and customers, and a live view; Ctrl-C stops all.
demo: setup
	$(BIN)/rappen demo

# The whole suite, on a real PostgreSQL and a real Kafka that it starts itself.
test: setup
	$(BIN)/python -m pytest

# More examples than in the suite, and other ones at each run: a hundred times as many of the properties that compare the
# fast form of the charge with the published one, ten times as many of the requests made of the OpenAPI document.
fuzz: setup
	RAPPEN_FUZZ=100 $(BIN)/python -m pytest -n 0 --timeout 3600 tests/property/test_fast_reading.py tests/property/test_fast_charging.py
	RAPPEN_FUZZ=10 $(BIN)/python -m pytest -n 0 --timeout 3600 tests/integration/answers/test_whatever_is_sent.py

# The figures of speed and memory, as ratios to a baseline of the same run.
bench: setup
	$(BIN)/python -m tests.bench

# The speed of this checkout through that of another, by turns: make compare OTHER=path [ROUNDS=20]. `make setup` there.
compare: setup
	$(BIN)/python -m tests.bench.compare $(if $(OTHER),"$(OTHER)") $(if $(ROUNDS),--rounds $(ROUNDS))

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict -d "{extends: relaxed, rules: {line-length: {max: 140}}}" compose.yaml
	$(BIN)/python -m rappen_contracts.generate --check
	$(BIN)/python -m rappen_contracts.compatibility --check
	for name in $(DESCRIBED); do $(BIN)/python -m services.$$name openapi --check || exit 1; done

up: setup
	$(BIN)/rappen up

down: setup
	$(BIN)/rappen down

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: setup
	$(BIN)/python -m rappen_contracts.generate
	for name in $(DESCRIBED); do $(BIN)/python -m services.$$name openapi --write || exit 1; done

EXPORT = $(BIN)/uv export --frozen --no-emit-workspace --no-annotate --no-header --quiet --format requirements-txt

# Resolves the newest versions that pyproject.toml allows, and writes them with their hashes: all of them for this
# environment, and what the services need for the image. tests/unit/test_locks.py tells when it has to be done again.
lock: setup
	$(BIN)/uv lock --upgrade
	$(EXPORT) --all-extras --all-groups --output-file requirements.lock
	$(EXPORT) --no-dev --output-file requirements.production.lock

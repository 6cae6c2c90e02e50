# make demo   prove the main job on real audio, in a private PipeWire
# make test   lint, then every test, with coverage
# make reliability   the long tests behind docs/reliability.md; half an hour or more
# make lint   formatting, linting, types
# make clean  remove what the others made
#
# The first run installs missing system packages (Debian: apt) and makes .venv; later ones reinstall
# only when pyproject.toml changed, and rebuild only when C changed.

VENV := .venv
PYTHON := $(VENV)/bin/python
C := $(wildcard csrc/*.[ch]) $(wildcard tests/native/*.[ch] tests/native/*/*.[ch])
PY := python tests examples csrc scripts
WARNINGS_ARE_ERRORS := -C cmake.define.CMAKE_COMPILE_WARNING_AS_ERROR=ON

.PHONY: demo test reliability lint format clean system

demo: $(VENV)/.built
	$(VENV)/bin/stagebox demo

test: lint
	$(PYTHON) -m coverage erase
	$(PYTHON) -m coverage run -m pytest
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report

reliability: $(VENV)/.built
	$(PYTHON) -m pytest --full

lint: $(VENV)/.built
	$(VENV)/bin/ruff format --check $(PY)
	$(VENV)/bin/ruff check $(PY)
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run -Werror $(C)

format: $(VENV)/.built
	$(VENV)/bin/ruff format $(PY)
	$(VENV)/bin/ruff check --fix $(PY)
	$(VENV)/bin/clang-format -i $(C)

# Looked at every time, and silent when all is there.
system:
	@scripts/install-system-packages

$(VENV)/.ready: pyproject.toml | system
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) scripts/requirements.py > $(VENV)/requirements.txt
	$(PYTHON) -m pip install --quiet -r $(VENV)/requirements.txt
	touch $@

# Editable: Python changes need no install, C changes an incremental build in build/.
$(VENV)/.built: $(VENV)/.ready CMakeLists.txt $(wildcard csrc/*) | system
	$(PYTHON) -m pip install --quiet --no-build-isolation --no-deps $(WARNINGS_ARE_ERRORS) \
	    --editable .
	touch $@

clean:
	rm -rf $(VENV) build dist stagebox-demo .coverage .coverage.* \
	    .mypy_cache .pytest_cache .ruff_cache .hypothesis

# make demo   prove the main job on real audio, in a private PipeWire
# make test   lint, then every test, with coverage
# make reliability   the long tests behind docs/reliability.md; half an hour or more
# make bench  how fast, beside what else people use: benchmarks/results/
# make bench-quick   a minute of that, which fails on frames lost and on more instructions
# make lint   formatting, linting, types, analysis
# make wheel  a wheel and an sdist, in dist/
# make check-wheel   the same, and tests it on each CPython that pyproject.toml names
# make sanitize   the tests with AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer,
#             one after the other (make sanitize-address, -undefined, -thread), and make memcheck
# make matrix   the graph tests with every PipeWire: docs/compatibility.md; as root, needs debootstrap
# make memcheck   the C core on a real daemon under valgrind
# make clean  remove what the others made
#
# The first run installs missing system packages (Debian: apt) and makes .venv; later ones reinstall
# only when pyproject.toml changed, and rebuild only when C changed.

VENV := .venv
PYTHON := $(VENV)/bin/python
C := $(wildcard csrc/*.[ch]) $(wildcard tests/native/*.[ch] tests/native/*/*.[ch]) \
    $(wildcard benchmarks/floor/*.[ch])
PY := python tests examples benchmarks csrc scripts
WARNINGS_ARE_ERRORS := -C cmake.define.CMAKE_COMPILE_WARNING_AS_ERROR=ON

.PHONY: demo test reliability sanitize sanitize-address sanitize-undefined sanitize-thread memcheck \
    matrix wheel check-wheel bench bench-quick bench-system lint format clean system

demo: $(VENV)/.built
	$(VENV)/bin/stagebox demo

test: lint
	$(PYTHON) -m coverage erase
	$(PYTHON) -m coverage run -m pytest -m 'not memcheck and not alone' -n 2 --dist worksteal
	$(PYTHON) -m coverage run -m pytest -m alone
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report
	$(PYTHON) -m coverage report --include='*/pump_state.py' --fail-under=100

reliability: $(VENV)/.built
	$(PYTHON) -m pytest --full

# The library that talks to the daemon must be the system's own; nothing else is there to bundle,
# and so nothing to patch.
wheel: $(VENV)/.release
	rm -rf dist build/unaudited
	$(PYTHON) -m build --outdir build/unaudited $(WARNINGS_ARE_ERRORS)
	$(PYTHON) -m auditwheel repair --strip --patcher none --exclude libpipewire-0.3.so.0 \
	    --wheel-dir dist build/unaudited/*.whl
	mv build/unaudited/*.tar.gz dist

check-wheel: wheel
	$(PYTHON) scripts/check_wheel.py

sanitize: sanitize-address sanitize-undefined sanitize-thread memcheck

sanitize-address sanitize-undefined sanitize-thread: sanitize-%: $(VENV)/.built
	scripts/sanitize $*

memcheck: $(VENV)/.built
	$(PYTHON) -m pytest -m memcheck

bench: $(VENV)/.built $(VENV)/.contenders
	$(PYTHON) -m benchmarks

bench-quick: $(VENV)/.built | bench-system
	$(PYTHON) -m benchmarks.quick

matrix: $(VENV)/.built
	$(PYTHON) scripts/matrix.py

lint: $(VENV)/.built $(VENV)/.analysed
	$(VENV)/bin/ruff format --check $(PY)
	$(VENV)/bin/ruff check $(PY)
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run -Werror $(C)

format: $(VENV)/.built
	$(VENV)/bin/ruff format $(PY)
	$(VENV)/bin/ruff check --fix $(PY)
	$(VENV)/bin/clang-format -i $(C)

# What two compilers find by following the paths through our C; looked for when that changed.
# PipeWire's headers are the system's: what is found in them is not told. Not inlined, for gcc 12
# then takes what a list of theirs holds for lost.
$(VENV)/.analysed: $(wildcard csrc/*.[ch]) .clang-tidy | $(VENV)/.built
	flags=$$(pkg-config --cflags libpipewire-0.3 | sed 's/-I/-isystem /g'); \
	flags="-std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra $$flags"; \
	each() { printf '%s\n' csrc/*.c | xargs -P "$$(nproc)" -I FILE "$$@"; }; \
	each $(VENV)/bin/clang-tidy --quiet FILE -- $$flags && \
	each gcc $$flags -fno-inline -Werror -fanalyzer -c FILE -o /dev/null
	touch $@

# Looked at every time, and silent when all is there.
system:
	@scripts/install-system-packages

$(VENV)/.ready: pyproject.toml | system
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) scripts/requirements.py > $(VENV)/requirements.txt
	$(PYTHON) -m pip install --quiet -r $(VENV)/requirements.txt
	touch $@

$(VENV)/.release: $(VENV)/.ready
	$(PYTHON) -m pip install --quiet --group release
	touch $@

bench-system:
	@scripts/install-system-packages bench

$(VENV)/.contenders: $(VENV)/.ready pyproject.toml | bench-system
	$(PYTHON) scripts/requirements.py bench > $(VENV)/contenders.txt
	$(PYTHON) -m pip install --quiet -r $(VENV)/contenders.txt
	touch $@

# Editable: Python changes need no install, C changes an incremental build in build/.
$(VENV)/.built: $(VENV)/.ready CMakeLists.txt $(wildcard csrc/*) | system
	$(PYTHON) -m pip install --quiet --no-build-isolation --no-deps $(WARNINGS_ARE_ERRORS) \
	    --editable .
	touch $@

clean:
	rm -rf $(VENV) build dist stagebox-demo soak .coverage .coverage.* \
	    .mypy_cache .pytest_cache .ruff_cache .hypothesis

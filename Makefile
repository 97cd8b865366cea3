# Two commands for everyone: `make demo` shows VSFS at work, `make test` proves it.
# Each sets up all that it needs: packages by apt where they are missing, and a
# virtual environment in .venv with VSFS installed.

SOURCES := pyproject.toml README.md $(wildcard vsfs/*.py vsfs/*/*.py tools/*.py)
BIN := .venv/bin

.PHONY: help demo test lint images fuzz crash bench clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   format an image, mount it, use it, look inside"
	@echo "make test   run all tests"
	@echo "make lint   ruff and mypy"
	@echo "make images make the sample images in images/ again"
	@echo "make fuzz   break images until something else breaks (FUZZ_ARGS=-max_total_time=60)"
	@echo "make crash  pull the plug at every write (CRASH_ARGS='--states 100000'; goes on where it was)"
	@echo "make bench  VSFS beside fuse2fs, a floor and ext4 (BENCH_ARGS='--rounds 3 --only create')"
	@echo "make clean  remove what the others made"

demo: .venv/.installed-demo
	@tools/demo.sh

test: .venv/.installed-test
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

lint: .venv/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

images: .venv/.installed-demo
	$(BIN)/python images/make_images.py
	$(BIN)/python images/broken/make_broken.py

fuzz: .venv/.installed-fuzz
	@$(BIN)/python -m tests.fuzz.fuzz $(FUZZ_ARGS)

crash: .venv/.installed-crash
	@$(BIN)/python -m tests.crash.long_run $(CRASH_ARGS)

# as root, so that caches can be dropped and ext4 mounted; otherwise it does without
bench: .venv/.installed-bench
	@$(BIN)/python -m bench $(BENCH_ARGS)

# demo: no extra packages; test, lint, fuzz and crash: the extras of pyproject.toml
.venv/.installed-%: $(SOURCES) tools/setup.sh
	@tools/setup.sh $*
	@touch $@

clean:
	rm -rf .venv .demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

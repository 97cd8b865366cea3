# Two commands for everyone: `make demo` shows VSFS at work, `make test` proves it.
# Each sets up all that it needs: packages by apt where they are missing, and a
# virtual environment in .venv with VSFS installed.

SOURCES := pyproject.toml README.md $(wildcard vsfs/*.py tools/*.py)
BIN := .venv/bin

.PHONY: help demo test lint images clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   format an image, mount it, use it, look inside"
	@echo "make test   run all tests"
	@echo "make lint   ruff and mypy"
	@echo "make images make the sample images in images/ again"
	@echo "make clean  remove what the others made"

demo: .venv/.installed-demo
	@tools/demo.sh

test: .venv/.installed-test
	$(BIN)/pytest $(PYTEST_ARGS)

lint: .venv/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

images: .venv/.installed-demo
	$(BIN)/python images/make_images.py

# demo: no extra packages; test and lint: the extras of pyproject.toml
.venv/.installed-%: $(SOURCES) tools/setup.sh
	@tools/setup.sh $*
	@touch $@

clean:
	rm -rf .venv .demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The first commands. Each does all the set-up it needs, once, in .venv; the work is in scripts/.

Q ?= What is 47 + 38 - 12?

# The question as it was typed: a `$` in it is not make's, and a quote not the shell's.
export QUESTION := $(value Q)

.PHONY: help run test check docs bench clean

help:
	@echo 'make run [Q="..."]   ask the bundled model one question; its thinking is shown'
	@echo 'make test            run all tests'
	@echo 'make check           format, lint, types, floors, spelling'
	@echo 'make docs            build the documentation into site/'
	@echo 'make bench           measure speed on this machine'
	@echo 'make clean           remove .venv and everything that was built'

run:
	@scripts/install
	@.venv/bin/araio run --prompt "$$QUESTION"

test:
	@scripts/test

check:
	@scripts/check

docs:
	@scripts/docs

bench:
	@scripts/bench

clean:
	rm -rf .venv build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests scripts benchmarks -name __pycache__ -prune -exec rm -rf {} +

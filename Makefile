# make demo    the whole job on a CPU: footage, SFT, averaging, GRPO, report (13 minutes after set-up on two cores)
# make test    every test, with real verl, Ray, vLLM, Slurm and a browser (about 15 minutes after set-up)
# make lint    ruff
# make bench   the benchmarks, each against a floor or a peer measured in the same run
# make fuzz    a coverage-guided search for a response that breaks the rewards (TIME=60 seconds)
# make setup   the environment in .venv; the others call it, and it does nothing when nothing changed
.PHONY: setup demo test lint bench fuzz browser slurm
BIN := .venv/bin

setup:
	@.ci/setup

demo: setup
	@echo "==> the demo: about 13 minutes on two cores; interrupt it when you like, 'make demo' continues"
	@$(BIN)/sv6d demo

test: setup browser slurm
	@echo "==> the tests: about 15 minutes on two cores"
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

bench: setup
	@for file in benchmarks/*.py; do echo "==> $$file"; $(BIN)/python $$file || exit 1; done

fuzz: setup
	@$(BIN)/pip install --quiet --constraint constraints-cpu.txt --editable '.[fuzz]'
	@$(BIN)/python tests/rewards/fuzz_score.py $(or $(TIME),60)

browser:
	@.ci/browser

slurm:
	@.ci/slurm

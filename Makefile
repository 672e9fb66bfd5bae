# The same commands as in the README and in CI.
.PHONY: test format quickstart
test:
	bash scripts/test.sh
format:
	.venv/bin/python -m ruff check --fix . && .venv/bin/python -m ruff format .
quickstart:
	bash scripts/quickstart.sh

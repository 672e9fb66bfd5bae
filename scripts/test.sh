#!/usr/bin/env bash
# Environment, lint, types and tests, as in CI. Further arguments go to pytest: bash scripts/test.sh -k patches
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup_environment.sh dev

"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m pyright
export OMP_NUM_THREADS=1  # two tests run at a time, each with its own thread
"$PYTHON" -m pytest -q -n 2 --dist loadscope "$@"

# The body of dist_train.sh and dist_test.sh, sourced: <module> <config> <gpus> [key=value ...]
set -euo pipefail
if [ $# -lt 3 ]; then
  echo "usage: bash scripts/$(basename "$0") <config> <gpus> [key=value ...]" >&2
  exit 2
fi
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[ -x "$python" ] || python=python3
export FLWR_TELEMETRY_ENABLED=0 RAY_USAGE_STATS_ENABLED=0
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m "$1" "$2" "devices=$3" "${@:4}"

#!/usr/bin/env bash
# Fine-tune: bash scripts/dist_train.sh <config> <gpus> [key=value ...]
#   bash scripts/dist_train.sh conf/finetune.yaml 1 --work_dir=./finetune_results --data_dir=data
# <config> is a YAML file or its name in conf/. Without a GPU, <gpus> is the number of processes on the CPU.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: bash scripts/dist_train.sh <config> <gpus> [key=value ...]" >&2
  exit 2
fi
config="$1" gpus="$2"
shift 2
root="$(cd "$(dirname "$0")/.." && pwd)"
python="$root/.venv/bin/python"
[ -x "$python" ] || python=python3
export FLWR_TELEMETRY_ENABLED=0 RAY_USAGE_STATS_ENABLED=0
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m fedvssl.finetune "$config" "devices=$gpus" "$@"

#!/usr/bin/env bash
# UCF-101 from nothing to one list of videos per client: download, extract, annotate, partition.
#
#   bash scripts/prepare_ucf101.sh [--num_clients 5] [--data_dir data] [--raw_dir VIDEOS] [--ann_dir LISTS]
#                                  [--name ucf101] [--short_side 144]
#
# --raw_dir and --ann_dir take videos and lists that are on the disk already and spare their download; with --name they
# may be any clips of your own with lists in the style of UCF-101. Run it again after a stop: what is finished is kept.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
num_clients=5 data_dir="$root/data" raw_dir="" ann_dir="" name=ucf101 short_side=144

while (($#)); do
  case "$1" in
    --num_clients=* | --data_dir=* | --raw_dir=* | --ann_dir=* | --name=* | --short_side=*)
      set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
  esac
  case "$1" in
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    --num_clients | --data_dir | --raw_dir | --ann_dir | --name | --short_side)
      (($# > 1)) || { echo "error: $1 needs a value." >&2; exit 2; }
      printf -v "${1#--}" '%s' "$2"; shift 2 ;;
    *) echo "error: unknown option $1 (see --help)." >&2; exit 2 ;;
  esac
done
[[ "$num_clients" =~ ^[1-9][0-9]*$ ]] || { echo "error: --num_clients $num_clients is no number from 1." >&2; exit 2; }

python="$root/.venv/bin/python"
[[ -x "$python" ]] || python=python3
"$python" -c 'import mmcv' 2>/dev/null || {
  echo "error: the environment is missing: bash scripts/test.sh or scripts/quickstart.sh makes it, or pip install -e ." >&2
  exit 2
}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
out_dir="$data_dir/$name"

if [[ -z "$ann_dir" ]]; then
  ann_dir="$out_dir/lists"
  "$python" -m data_tools.ucf101.download --out_dir "$out_dir" --parts lists
fi
if [[ -z "$raw_dir" ]]; then
  raw_dir="$out_dir/raw"
  "$python" -m data_tools.ucf101.download --out_dir "$out_dir" --parts raw
fi
"$python" -m data_tools.ucf101.prepare --raw_dir "$raw_dir" --ann_dir "$ann_dir" --out_dir "$out_dir" \
  --short_side "$short_side"
"$python" -m data_tools.partition --json_path "$out_dir/annotations" \
  --output_path "$out_dir/annotations/client_distribution" --num_clients "$num_clients"

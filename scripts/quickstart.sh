#!/usr/bin/env bash
# Every stage once, on a small machine: environment, data, partition, federated pre-training, fine-tuning, test, table.
#   bash scripts/quickstart.sh                                            an embedded synthetic action set
#   bash scripts/quickstart.sh --raw_dir <videos> --ann_dir <UCF lists>   the same on clips of your own
# --work_dir <folder>: default outputs/quickstart, or outputs/quickstart_own for clips of your own. A repeated command
# goes on where it stopped; other clips need another work_dir.
set -euo pipefail
invoked_from="$PWD"
cd "$(dirname "$0")/.."

raw_dir="" ann_dir="" work_dir=""
while [ $# -gt 0 ]; do
  case "$1" in
    --raw_dir=*|--ann_dir=*|--work_dir=*) declare "${1:2}"; shift ;;
    --raw_dir|--ann_dir|--work_dir)
      [ $# -ge 2 ] || { echo "error: $1 needs a folder." >&2; exit 2; }
      declare "${1:2}=$2"; shift 2 ;;
    *) echo "error: unknown option $1; known: --raw_dir, --ann_dir, --work_dir." >&2; exit 2 ;;
  esac
done
if [ -n "$raw_dir$ann_dir" ] && { [ -z "$raw_dir" ] || [ -z "$ann_dir" ]; }; then
  echo "error: --raw_dir and --ann_dir belong together: the videos and their lists." >&2; exit 2
fi
absolute() { case "$1" in /*) echo "$1" ;; *) echo "$invoked_from/$1" ;; esac; }
if [ -n "$work_dir" ]; then
  work_dir="$(absolute "$work_dir")"
else
  work_dir="outputs/quickstart${raw_dir:+_own}"
fi
if [ -n "$raw_dir" ]; then
  raw_dir="$(absolute "$raw_dir")" ann_dir="$(absolute "$ann_dir")"
  for folder in "$raw_dir" "$ann_dir"; do
    [ -d "$folder" ] || { echo "error: there is no folder $folder." >&2; exit 2; }
  done
fi
# One work_dir belongs to one set of clips.
mkdir -p "$work_dir"
clips="$work_dir/clips.txt"
[ -f "$clips" ] || echo "${raw_dir:-synthetic} $ann_dir" > "$clips"
if [ "$(cat "$clips")" != "${raw_dir:-synthetic} $ann_dir" ]; then
  echo "error: $work_dir is of other clips ($(cat "$clips")): give another --work_dir." >&2; exit 2
fi

source scripts/setup_environment.sh ""
started=$SECONDS
stage() { printf '\n== %s   [%d s]\n' "$1" "$((SECONDS - started))"; }

if [ -z "$raw_dir" ]; then
  stage "1/7 a synthetic action set, classes differ by motion only"
  raw_dir="$work_dir/synthetic/raw" ann_dir="$work_dir/synthetic/lists"
  [ -f "$ann_dir/classInd.txt" ] || "$PYTHON" -m data_tools.synthetic --out_dir "$work_dir/synthetic"
else
  stage "1/7 the videos of $raw_dir"
fi

data="$work_dir/data/quickstart"
stage "2/7 videos to zips of JPEG frames, lists to JSON"
"$PYTHON" -m data_tools.ucf101.prepare --raw_dir "$raw_dir" --ann_dir "$ann_dir" --out_dir "$data" --short_side 64

stage "3/7 partition over 3 clients"
"$PYTHON" -m data_tools.partition --json_path "$data/annotations" \
  --output_path "$data/annotations/client_distribution" --num_clients 3

stage "4/7 federated pre-training: Catch-the-Patch on R3D-18, FedVSSL, 2 rounds"
"$PYTHON" -m fedvssl.main experiment=quickstart data_dir="$work_dir/data" hydra.run.dir="$work_dir/pretraining"

stage "5/7 round 2 to a checkpoint for fine-tuning"
"$PYTHON" -m fedvssl.finetune_preprocess --output_path "$work_dir/model_pretrained.pth" \
  --pretrained_model_path "$work_dir/pretraining/round-2-weights.npz"

num_classes="$("$PYTHON" -c "import json, sys; print(max(video['label'] for video in json.load(open(sys.argv[1]))))" \
  "$data/annotations/train_split_1.json")"
options=(experiment=finetune_quickstart "data_dir=$work_dir/data" "data.num_classes=$num_classes")
stage "6/7 fine-tuning and test, from the pre-trained backbone"
bash scripts/dist_train.sh finetune 1 "${options[@]}" work_dir="$work_dir/finetuned" pretrained="$work_dir/model_pretrained.pth"
bash scripts/dist_test.sh test 1 "${options[@]}" work_dir="$work_dir/finetuned"

stage "7/7 fine-tuning and test, from scratch"
bash scripts/dist_train.sh finetune 1 "${options[@]}" work_dir="$work_dir/scratch" from_scratch=true
bash scripts/dist_test.sh test 1 "${options[@]}" work_dir="$work_dir/scratch"

stage "done"
"$PYTHON" scripts/compare_results.py "pre-trained=$work_dir/finetuned" "from scratch=$work_dir/scratch"
echo "A few minutes of training on a few clips show that everything runs, not which row is better."
echo "Loss curves, confusion matrices and all numbers: $work_dir"

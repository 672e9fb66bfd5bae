#!/usr/bin/env bash
# From nothing to a backbone that has been seen to learn, on two cores: environment, data, partition, federated
# Catch-the-Patch with FedVSSL, evaluation, fine-tuning, one table, one report.
#   bash scripts/quickstart.sh                                            an embedded synthetic action set, 5 minutes
#   bash scripts/quickstart.sh --raw_dir <videos> --ann_dir <UCF lists>   the same on clips of your own, 64 pixels
# --work_dir <folder>: default outputs/quickstart, or outputs/quickstart_own for clips of your own. --seed <number>: of
# the synthetic videos, the partition and the training. A repeated command goes on where it stopped; other clips or
# another seed need another work_dir.
set -euo pipefail
invoked_from="$PWD"
cd "$(dirname "$0")/.."

raw_dir="" ann_dir="" work_dir="" seed=7
while [ $# -gt 0 ]; do
  case "$1" in
    -h|--help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' scripts/quickstart.sh; exit 0 ;;
    --raw_dir=*|--ann_dir=*|--work_dir=*|--seed=*) declare "${1:2}"; shift ;;
    --raw_dir|--ann_dir|--work_dir|--seed)
      [ $# -ge 2 ] || { echo "error: $1 needs a value." >&2; exit 2; }
      declare "${1:2}=$2"; shift 2 ;;
    *) echo "error: unknown option $1; known: --raw_dir, --ann_dir, --work_dir, --seed." >&2; exit 2 ;;
  esac
done
if [ -n "$raw_dir$ann_dir" ] && { [ -z "$raw_dir" ] || [ -z "$ann_dir" ]; }; then
  echo "error: --raw_dir and --ann_dir belong together: the videos and their lists." >&2; exit 2
fi
case "$seed" in ""|*[!0-9]*) echo "error: --seed $seed must be a whole number, at least 0." >&2; exit 2 ;; esac
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
[ -f "$clips" ] || echo "${raw_dir:-synthetic} $ann_dir seed $seed" > "$clips"
if [ "$(cat "$clips")" != "${raw_dir:-synthetic} $ann_dir seed $seed" ]; then
  echo "error: $work_dir is of other clips or another seed ($(cat "$clips")): give another --work_dir." >&2; exit 2
fi

export FEDVSSL_ENDS_WITH=$$  # every command ends with this script, also if it is killed
source scripts/setup_environment.sh ""
started=$SECONDS
stage() { printf '\n== %s   [%d s]\n' "$1" "$((SECONDS - started))"; }

if [ -z "$raw_dir" ]; then
  experiment=small name=small short_side=64
  stage "1/7 a synthetic action set, classes differ by motion only"
  raw_dir="$work_dir/synthetic/raw" ann_dir="$work_dir/synthetic/lists"
  [ -f "$ann_dir/classInd.txt" ] || "$PYTHON" -m data_tools.synthetic --out_dir "$work_dir/synthetic" --seed "$seed"
else
  experiment=small_clips name=clips short_side=72
  stage "1/7 the videos of $raw_dir"
fi

data="$work_dir/data/$name"
options=("experiment=$experiment" "data_dir=$work_dir/data" "data.name=$name")
stage "2/7 videos to zips of JPEG frames, lists to JSON"
"$PYTHON" -m data_tools.ucf101.prepare --raw_dir "$raw_dir" --ann_dir "$ann_dir" --out_dir "$data" --short_side "$short_side"

stage "3/7 partition over 3 clients"
"$PYTHON" -m data_tools.partition --json_path "$data/annotations" \
  --output_path "$data/annotations/client_distribution" --num_clients 3 --seed "$seed"
training=""
if [ "$experiment" = small_clips ]; then
  # Each client needs some 600 steps (docs/results.md), 30 in each of 20 rounds: few videos pass more than six times.
  videos="$("$PYTHON" -c 'import json, sys; print(len(json.load(open(sys.argv[1]))))' "$data/annotations/train_split_1.json")"
  batches=$(((videos / 3 + 15) / 16))
  epochs=$(((30 + batches - 1) / batches))
  begun="$(sed -n 's/^  local_epochs: //p' "$work_dir/pretraining/config.yaml" 2>/dev/null || true)"  # a run keeps its own
  training="training.local_epochs=${begun:-$((epochs > 6 ? epochs : 6))}"
fi

stage "4/7 federated pre-training: Catch-the-Patch, FedVSSL with alpha .9 and beta 0, which learns sooner than beta 1"
"$PYTHON" -m fedvssl.main "${options[@]}" ${training:+"$training"} seed="$seed" hydra.run.dir="$work_dir/pretraining"
last_round="$(ls "$work_dir/pretraining" | sed -n 's/^round-\([0-9]*\)-weights.npz$/\1/p' | sort -n | tail -1)"
checkpoint="$work_dir/pretraining/round-$last_round-weights.npz"

stage "5/7 what the backbone knows, beside random weights and the mean frame"
"$PYTHON" -m fedvssl.evaluate retrieval linear_probe motion_probe "${options[@]}" seed="$seed" checkpoint="$checkpoint"
"$PYTHON" scripts/show_task.py checkpoint="$checkpoint"

stage "6/7 fine-tuning from the pre-trained backbone, and with the same recipe from scratch at the same time"
fine_tune() {  # <folder> <where the weights start>
  bash scripts/dist_train.sh finetune 1 "${options[@]}" seed="$seed" progress=false work_dir="$work_dir/$1" "$2"
  bash scripts/dist_test.sh test 1 "${options[@]}" progress=false work_dir="$work_dir/$1"
}
export OMP_NUM_THREADS=1  # one core each
fine_tune scratch from_scratch=true > "$work_dir/scratch.log" 2>&1 &
scratch=$!
trap 'pkill -P "$scratch"; kill "$scratch" 2>/dev/null' EXIT  # it must not outlive an error or Ctrl-C
fine_tune finetuned pretrained="$checkpoint"
wait "$scratch" || { cat "$work_dir/scratch.log" >&2; exit 1; }
trap - EXIT

stage "7/7 table and report"
"$PYTHON" scripts/quickstart_table.py "$work_dir"
"$PYTHON" -m fedvssl.report "$work_dir/pretraining" --include "$work_dir/finetuned" "$work_dir/scratch" \
  --output "$work_dir/report.html" > /dev/null
cat <<END

Next:
  bash scripts/prepare_ucf101.sh                                          the whole of UCF-101
  $PYTHON -m fedvssl.main data_dir=data rounds=20                         the published method on it
  $PYTHON -m fedvssl.main experiment=$experiment data_dir=$work_dir/data data.name=$name strategy.fedavg=true
Done in $((SECONDS - started)) s: $work_dir/report.html
END

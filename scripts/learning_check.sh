#!/usr/bin/env bash
# Does federated pre-training help? From scratch against pre-trained over 3 clients: same recipe, same epochs, three seeds,
# at a picture size that two cores can bear. Prints one table; a repeated command goes on where it stopped.
#   bash scripts/learning_check.sh <data_dir> <name of the data set in it> <number of classes> <work_dir>
# The data set was prepared and partitioned over 3 clients (data_tools.ucf101.prepare, data_tools.partition).
set -euo pipefail
if [ $# -ne 4 ]; then sed -n '2,5s/^# //p' "$0" >&2; exit 2; fi
data_dir="$(cd "$1" && pwd)" name="$2" num_classes="$3"
mkdir -p "$4"
work_dir="$(cd "$4" && pwd)"
cd "$(dirname "$0")/.."
source scripts/setup_environment.sh ""

pretraining=(experiment=quickstart "data_dir=$data_dir" "data.name=$name" rounds=8 training.batch_size=8)
finetuning=(experiment=finetune_quickstart "data_dir=$data_dir" "data.name=$name" "data.num_classes=$num_classes")
recipe=(training.epochs=8 "training.steps=[6]" training.batch_size=16)
for seed in 7 8 9; do
  folder="$work_dir/seed$seed"
  "$PYTHON" -m fedvssl.main "${pretraining[@]}" "seed=$seed" "hydra.run.dir=$folder/pretraining" keep_last=1
  "$PYTHON" -m fedvssl.finetune_preprocess --pretrained_model_path "$folder/pretraining/round-8-weights.npz" \
    --output_path "$folder/model_pretrained.pth"
  bash scripts/dist_train.sh finetune 1 "${finetuning[@]}" "${recipe[@]}" "seed=$seed" \
    "work_dir=$folder/finetuned" "pretrained=$folder/model_pretrained.pth"
  bash scripts/dist_train.sh finetune 1 "${finetuning[@]}" "${recipe[@]}" "seed=$seed" \
    "work_dir=$folder/scratch" from_scratch=true
  for start in finetuned scratch; do
    bash scripts/dist_test.sh test 1 "${finetuning[@]}" "work_dir=$folder/$start"
  done
done
"$PYTHON" scripts/compare_results.py \
  "FedVSSL, then fine-tuned=$work_dir/seed7/finetuned,$work_dir/seed8/finetuned,$work_dir/seed9/finetuned" \
  "from scratch=$work_dir/seed7/scratch,$work_dir/seed8/scratch,$work_dir/seed9/scratch"

#!/usr/bin/env bash
# Fine-tune: bash scripts/dist_train.sh <config> <gpus> [key=value ...]
#   bash scripts/dist_train.sh conf/finetune.yaml 1 --work_dir=./finetune_results --data_dir=data
# <config> is a YAML file or its name in conf/. Without a GPU, <gpus> is the number of processes on the CPU.
source "$(dirname "$0")/run_command.sh" fedvssl.finetune "$@"

#!/usr/bin/env bash
# Test: bash scripts/dist_test.sh <config> <gpus> [key=value ...]
#   bash scripts/dist_test.sh conf/test.yaml 1 --work_dir=./finetune_results --data_dir=data --progress
# <config> is a YAML file or its name in conf/. Without a GPU, <gpus> is the number of processes on the CPU.
source "$(dirname "$0")/run_command.sh" fedvssl.test "$@"

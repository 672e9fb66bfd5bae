#!/usr/bin/env bash
# UCF-101 from nothing to one list of videos per client: download, extract, annotate, partition.
#
#   bash scripts/prepare_ucf101.sh [--num_clients 5] [--data_dir data] [--raw_dir VIDEOS] [--ann_dir LISTS]
#                                  [--name ucf101] [--short_side 144] [-- --method by-group]
#
# --raw_dir and --ann_dir use videos and lists that are on the disk already, without a download; with --name they may be
# any clips of your own with lists as in UCF-101. Arguments after -- are flags of data_tools.partition. A rerun goes on.
set -euo pipefail

dataset=ucf101 num_clients=5 partition=()
source "$(dirname "${BASH_SOURCE[0]}")/prepare_dataset.sh"

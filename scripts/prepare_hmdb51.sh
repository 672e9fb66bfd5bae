#!/usr/bin/env bash
# HMDB-51 from nothing to one list of videos per client: download, extract, annotate, partition.
#
#   bash scripts/prepare_hmdb51.sh [--num_clients 5] [--data_dir data] [--raw_dir VIDEOS] [--ann_dir LISTS]
#                                  [--name hmdb51] [--short_side 144] [-- --method dirichlet --alpha 0.5]
#
# --raw_dir and --ann_dir use videos (hmdb51_org, unpacked) and lists (testTrainMulti_7030_splits) that are on the disk
# already, without a download. Classes are numbered in alphabetical order of all lists, so that labels are the same on
# every machine and for any part of the videos. Arguments after -- are flags of data_tools.partition. A rerun goes on.
set -euo pipefail

dataset=hmdb51 num_clients=5 partition=()
source "$(dirname "${BASH_SOURCE[0]}")/prepare_dataset.sh"

#!/usr/bin/env bash
# Kinetics-400 from downloaded videos and lists to one list of videos per client: extract, annotate, partition.
#
#   bash scripts/prepare_kinetics400.sh --raw_dir VIDEOS --ann_dir LISTS [--num_clients 100] [--data_dir data]
#                                       [--name kinetics400] [--short_side 144] [-- --method uniform]
#
# VIDEOS has the clips of ten seconds, named <youtube_id>_<start>_<end>.mp4 (six digits each) or <youtube_id>.mp4, in
# any folders. LISTS has the official train.csv and val.csv, or other lists that data_tools.lists reads. Listed videos
# without a file are left out, counted, and named in annotations/left_out.json. Arguments after -- are flags of
# data_tools.partition, by default class-shard with 8 classes per client. A rerun after a stop goes on.
set -euo pipefail

dataset=kinetics400 num_clients=100 partition=(--method class-shard --classes_per_client 8)
source "$(dirname "${BASH_SOURCE[0]}")/prepare_dataset.sh"

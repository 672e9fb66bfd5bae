#!/usr/bin/env bash
# CIFAR-10 from nothing to one list of pictures per client: download (170 MB), convert, annotate, partition.
#
#   bash scripts/prepare_cifar10.sh [--num_clients 5] [--data_dir data] [--raw_dir PICTURES] [--name cifar10]
#                               [--short_side 32] [-- --method class --classes_per_client 2]
#
# --raw_dir uses what is on the disk already, without a download: cifar-10-binary.tar.gz or its folder, or folders of
# classes in folders train and test, each of which may be a zip. Nothing is unpickled. Arguments after -- are flags of
# data_tools.partition, by default --method iid. A rerun goes on.
set -euo pipefail

dataset=cifar10 num_clients=5 partition=(--method iid)
source "$(dirname "${BASH_SOURCE[0]}")/prepare_dataset.sh"

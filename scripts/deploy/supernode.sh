#!/usr/bin/env bash
# A node of a federation: checks its data, settles its precision, makes its key, and works for the server until it is ended.
#   bash scripts/deploy/supernode.sh --superlink server.example.org:8000 --ca ca.crt --client 1 --owner "St Mary" \
#     --media_dir <videos or pictures> --list <list.json> --state_dir <folder> [--device auto] [--port 9094] [--key_only yes] \
#     [--trusted_entities <keys.yaml>]
# --key_only yes makes the key <state_dir>/node.key and ends: give node.key.pub to the owner of the server, who registers it.
# --trusted_entities: only bundles that one of these keys has signed run here; none that is submitted from a checkout is.
# Only outgoing connections are needed; --port is local, one for each node of a machine.
set -euo pipefail
invoked_from="$PWD"
cd "$(dirname "$0")/../.."

superlink="" ca="" client="" owner="" media_dir="" list="" state_dir="" device=auto port=9094 key_only=no trusted_entities=""
while [ $# -gt 0 ]; do
  case "$1" in
    --superlink|--ca|--client|--owner|--media_dir|--list|--state_dir|--device|--port|--key_only|--trusted_entities)
      [ $# -ge 2 ] || { echo "error: $1 needs a value." >&2; exit 2; }; declare "${1:2}=$2"; shift 2 ;;
    *) echo "error: unknown option $1; the first lines of $0 tell the known ones." >&2; exit 2 ;;
  esac
done
absolute() { case "$1" in /*) echo "$1" ;; *) echo "$invoked_from/$1" ;; esac; }
case "$key_only" in yes|no) ;; *) echo "error: --key_only $key_only must be yes or no." >&2; exit 2 ;; esac
[ -n "$state_dir" ] || { echo "error: give --state_dir, a folder for what stays on this node." >&2; exit 2; }
state_dir="$(absolute "$state_dir")"
umask 077
mkdir -p "$state_dir"
[ -f "$state_dir/node.key" ] || ssh-keygen -q -t ecdsa -b 384 -N "" -C "${owner:-fedvssl node}" -f "$state_dir/node.key"
if [ "$key_only" = yes ]; then
  echo "$state_dir/node.key.pub"; exit 0
fi
for option in superlink ca client media_dir list; do
  [ -n "${!option}" ] || { echo "error: give --$option; the first lines of $0 tell what it is." >&2; exit 2; }
done
ca="$(absolute "$ca")"
[ -r "$ca" ] || { echo "error: there is no $ca: ask the owner of the server for ca.crt." >&2; exit 2; }
trusted=()
if [ -n "$trusted_entities" ]; then
  trusted=(--trusted-entities "$(absolute "$trusted_entities")")
  [ -r "${trusted[1]}" ] || { echo "error: there is no ${trusted[1]}: give the file of keys, see docs/privacy.md." >&2; exit 2; }
fi
source scripts/deploy/environment.sh

export FLWR_HOME="$state_dir/flwr"
node_config="$("$PYTHON" -m fedvssl.node --client "$client" --owner "$owner" --media_dir "$(absolute "$media_dir")" \
  --list "$(absolute "$list")" --state_dir "$state_dir" --device "$device")"
cd "$state_dir"
exec flower-supernode --superlink "$superlink" --root-certificates "$ca" --auth-supernode-private-key node.key \
  --port "$port" --node-config "$node_config" ${trusted[@]+"${trusted[@]}"}  # so that an empty one is nothing to the bash of macOS, too

#!/usr/bin/env bash
# The server of a federation: Flower's SuperLink with TLS and node keys. It runs until it is ended.
#   bash scripts/deploy/superlink.sh --work_dir <folder> --certificates <folder> [--host 0.0.0.0] [--port 8000]
# work_dir holds all that stays: outputs/<run-name>, state.db with the registered nodes, and flwr/config.toml with the
# connection by which `fedvssl submit` and `flwr` find the SuperLink (export FLWR_HOME=<work_dir>/flwr). Of that file only
# the address and the certificate of [superlink.here] are written at a start; what you add to it stays.
# Whoever reaches the port may submit code: see docs/deployment.md on the firewall.
set -euo pipefail
invoked_from="$PWD"
cd "$(dirname "$0")/../.."

work_dir="" certificates="" host=127.0.0.1 port=8000
while [ $# -gt 0 ]; do
  case "$1" in
    --work_dir|--certificates|--host|--port)
      [ $# -ge 2 ] || { echo "error: $1 needs a value." >&2; exit 2; }; declare "${1:2}=$2"; shift 2 ;;
    *) echo "error: unknown option $1; known: --work_dir, --certificates, --host, --port." >&2; exit 2 ;;
  esac
done
if [ -z "$work_dir" ] || [ -z "$certificates" ]; then
  echo "error: give --work_dir, a folder for what stays, and --certificates, the folder that certificates.sh has made." >&2; exit 2
fi
case "$port" in ""|*[!0-9]*) echo "error: --port $port must be a number." >&2; exit 2 ;; esac
absolute() { case "$1" in /*) echo "$1" ;; *) echo "$invoked_from/$1" ;; esac; }
work_dir="$(absolute "$work_dir")" certificates="$(absolute "$certificates")"
for file in ca.crt server.pem server.key; do
  [ -r "$certificates/$file" ] || { echo "error: no $file in $certificates that this account can read: make it with scripts/deploy/certificates.sh." >&2; exit 2; }
done
source scripts/deploy/environment.sh

export FLWR_HOME="$work_dir/flwr"
umask 077
mkdir -p "$FLWR_HOME"
case "$host" in 0.0.0.0|127.0.0.1) near=127.0.0.1 ;; ::|::1) near="[::1]" ;; *:*) near="[$host]" ;; *) near="$host" ;; esac
"$PYTHON" scripts/deploy/connection.py "$FLWR_HOME/config.toml" "$near:$port" "$certificates/ca.crt"
cd "$work_dir"  # the runs are below outputs/ of this folder
exec flower-superlink --host "$host" --port "$port" --database state.db --enable-supernode-auth \
  --ssl-ca-certfile "$certificates/ca.crt" --ssl-certfile "$certificates/server.pem" --ssl-keyfile "$certificates/server.key" \
  --disable-runtime-dependency-installation

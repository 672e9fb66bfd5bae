#!/usr/bin/env bash
# Certificates of a federation: an authority of its own, and the server's certificate that it signs.
#   bash scripts/deploy/certificates.sh --out_dir <folder> --host server.example.org,10.0.0.5 [--days 365]
# --host: the names and addresses by which the nodes reach the server;
# localhost, for `fedvssl submit` there, is added. Give ca.crt to every node; the .key files stay here.
set -euo pipefail

out_dir="" host="" days=365
while [ $# -gt 0 ]; do
  case "$1" in
    --out_dir|--host|--days) [ $# -ge 2 ] || { echo "error: $1 needs a value." >&2; exit 2; }; declare "${1:2}=$2"; shift 2 ;;
    *) echo "error: unknown option $1; known: --out_dir, --host, --days." >&2; exit 2 ;;
  esac
done
if [ -z "$out_dir" ] || [ -z "$host" ]; then
  echo "error: give --out_dir, a folder, and --host, the names and addresses of the server with commas between." >&2; exit 2
fi
case "$days" in ""|*[!0-9]*|0*) echo "error: --days $days must be a whole number, at least 1." >&2; exit 2 ;; esac
for file in ca.key ca.crt server.key; do
  [ ! -e "$out_dir/$file" ] || {
    echo "error: $out_dir has an authority already: remove the folder to begin anew, with a new ca.crt on every node." >&2; exit 2
  }
done
command -v openssl > /dev/null || { echo "error: openssl is missing: install it." >&2; exit 2; }
set -f  # a * in a name is no pattern of files
names="DNS:localhost,IP:127.0.0.1,IP:::1"
for name in ${host//,/ }; do
  case "$name" in
    *[!0-9a-zA-Z.:-]*) echo "error: --host: $name is no name or address." >&2; exit 2 ;;
    *:*|[0-9]*.[0-9]*.[0-9]*.[0-9]*) names="$names,IP:$name" ;;
    *) names="$names,DNS:$name" ;;
  esac
done

umask 077
mkdir -p "$out_dir"
cd "$out_dir"
made() {  # by openssl, or nothing is left
  openssl "$@" 2> openssl.log || {
    echo "error: openssl makes no certificate for $host: $(tail -n 1 openssl.log)" >&2
    rm -f ca.key ca.crt ca.srl server.key server.csr server.ext server.pem openssl.log; exit 2
  }
}
made req -x509 -newkey rsa:3072 -nodes -days "$days" -keyout ca.key -out ca.crt -subj "/CN=fedvssl federation" \
  -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign"
made req -newkey rsa:3072 -nodes -keyout server.key -out server.csr -subj "/CN=fedvssl server"
printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\n' "$names" > server.ext
made x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days "$days" -extfile server.ext \
  -out server.pem
rm -f server.csr server.ext openssl.log
chmod 644 ca.crt server.pem
echo "$PWD: ca.crt for every node; server.pem and server.key for the SuperLink; valid for $days days"

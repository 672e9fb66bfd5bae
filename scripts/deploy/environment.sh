# Sourced by the scripts of this folder: the Python with fedvssl in it, on the path as Flower wants it, and nothing sent home.
PYTHON="${PYTHON:-$PWD/.venv/bin/python}"
"$PYTHON" -c 'import flwr, fedvssl' 2>/dev/null || {
  echo "error: $PYTHON has no fedvssl and flwr: python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e ." >&2; exit 2
}
PATH="$(dirname "$PYTHON"):$PATH"  # Flower starts its programs by name
export PATH FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 RAY_USAGE_STATS_ENABLED=0

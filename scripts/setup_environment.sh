# Sourced by the other scripts: makes .venv where it is missing or out of date, and sets $PYTHON to its interpreter.
# Usage: source scripts/setup_environment.sh <extra>      "" or "dev"; both with Ray, for engine=simulation
export FLWR_TELEMETRY_ENABLED="${FLWR_TELEMETRY_ENABLED:-0}" RAY_USAGE_STATS_ENABLED="${RAY_USAGE_STATS_ENABLED:-0}"

_extra="$1"
_package=".[${_extra:-ray}]"
_base="${PYTHON:-python3}"
PYTHON="$PWD/.venv/bin/python"

if ! "$_base" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "error: Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11 and run again." >&2
  exit 2
fi
# One stamp per extra, holding what was installed, so that a second run starts at once and a changed list installs.
_stamp=".venv/installed${_extra:+-$_extra}"
if ! cat pyproject.toml constraints.txt | cmp -s - "$_stamp"; then
  echo "Setting up .venv (several GB on the first run, a few minutes) ..."
  if ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
    "$_base" -m venv --clear .venv || {
      echo "error: no virtual environment can be made; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2
    }
  fi
  mkdir -p .venv/tmp  # for the downloads, so that the progress below counts them
  TMPDIR="$PWD/.venv/tmp" "$PYTHON" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e "$_package" &
  _pip=$! _begun=$SECONDS _next=$((SECONDS + 5))
  trap 'kill "$_pip" 2>/dev/null' EXIT  # also when Ctrl-C ends the script
  while kill -0 "$_pip" 2>/dev/null; do
    sleep 1
    if [ "$SECONDS" -ge "$_next" ]; then
      echo "  $((SECONDS - _begun)) s, $(du -sm .venv 2>/dev/null | cut -f1) MB in .venv; up to 9500 on the way, 6600 when it is done"
      _next=$((SECONDS + 5))
    fi
  done
  _failed=""
  wait "$_pip" || _failed=yes
  trap - EXIT
  if [ "$_failed" ]; then
    echo "error: pip could not install the packages; see its lines above, and run again: what is there is kept." >&2; exit 2
  fi
  rm -rf .venv/tmp
  cat pyproject.toml constraints.txt > "$_stamp"
fi
if ! _error="$("$PYTHON" -c 'import cv2' 2>&1)"; then
  echo "error: OpenCV cannot be loaded: ${_error##*$'\n'}" >&2
  case "$_error" in
    *.so*) echo "On Debian and Ubuntu its system libraries come with: apt-get install libgl1 libglib2.0-0" >&2 ;;
    *) echo "Remove .venv and run again." >&2 ;;
  esac
  exit 2
fi

# Common part of the prepare_<data set>.sh scripts; they set dataset, num_clients and partition, and source this file.
# Arguments after "--" on the command line are flags of data_tools.partition.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
case "$dataset" in
  cifar*) parts=raw ;; # pictures: no lists
  *) parts="lists raw" ;;
esac
data_dir="$root/data" raw_dir="" ann_dir="" name="$dataset" short_side=""

fail() { echo "error: $1" >&2; exit 2; }

while (($#)); do
  case "$1" in
    --num_clients=* | --data_dir=* | --raw_dir=* | --ann_dir=* | --name=* | --short_side=*)
      set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
  esac
  case "$1" in
    -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --num_clients | --data_dir | --raw_dir | --ann_dir | --name | --short_side)
      (($# > 1)) || fail "$1 needs a value."
      printf -v "${1#--}" '%s' "$2"; shift 2 ;;
    --) partition=("${@:2}"); break ;;
    *) fail "unknown option $1 (see --help)." ;;
  esac
done
[[ -z "$ann_dir" || "$parts" == *lists* ]] || fail "--ann_dir is for videos: pictures have no lists, see --help."
[[ "$num_clients" =~ ^[1-9][0-9]*$ ]] || fail "--num_clients $num_clients is no number from 1."

python="$root/.venv/bin/python"
[[ -x "$python" ]] || python=python3
"$python" -c 'import mmcv' 2>/dev/null ||
  fail "the environment is missing: bash scripts/test.sh or scripts/quickstart.sh makes it, or pip install -e '.[ray]'"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export FEDVSSL_ENDS_WITH=$$  # every command ends with this script, also if it is killed
out_dir="$data_dir/$name"

if [[ -z "$ann_dir" && "$parts" == *lists* ]]; then
  ann_dir="$out_dir/lists"
  "$python" -m data_tools.fetch "$dataset" --out_dir "$out_dir" --parts lists
fi
if [[ -z "$raw_dir" ]]; then
  raw_dir="$out_dir/raw"
  "$python" -m data_tools.fetch "$dataset" --out_dir "$out_dir" --parts raw
fi
prepare=(--raw_dir "$raw_dir" --out_dir "$out_dir" --num_clients "$num_clients")
[[ -z "$ann_dir" ]] || prepare+=(--ann_dir "$ann_dir")
[[ -z "$short_side" ]] || prepare+=(--short_side "$short_side")
"$python" -m data_tools.prepare "${prepare[@]}"
"$python" -m data_tools.partition --json_path "$out_dir/annotations" \
  --output_path "$out_dir/annotations/client_distribution" --num_clients "$num_clients" \
  "${partition[@]+"${partition[@]}"}" # this form allows an empty list in old versions of bash

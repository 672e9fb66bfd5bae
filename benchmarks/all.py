"""All benchmarks in one run: a table and a JSON file.

    python -m benchmarks.all --json benchmarks.json
    python -m benchmarks.all --json benchmarks.json --real_dir ../clips --ann_dir ../lists

Takes a quarter of an hour on two cores. Needs an idle machine: the sides take turns, but other load may hit only one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import clip_test, end_to_end, loader, memory, preprocess, round_parts, startup, step, video_tasks, views
from benchmarks import round as server_round
from benchmarks.clips import Clips, clip_parser, prepare_clips
from benchmarks.measure import Result
from fedvssl.files.atomic import write_json
from fedvssl.files.environment import machine
from fedvssl.training.precision import choose_precision


def benchmarks(clips: Clips) -> dict[str, Callable[[], list]]:
    """Measurements by their names; each gives results, or the share of the augmentation as a dict."""
    return {
        "startup": lambda: [startup.measure()],
        "preprocess": lambda: [preprocess.measure(clips)],
        "loader": lambda: list(loader.measure(clips)),
        "step": lambda: list(step.measure()),
        "views": views.measure,
        "video_tasks": video_tasks.measure,
        "end_to_end": lambda: [end_to_end.measure(clips)],
        "test": lambda: [clip_test.measure(clips)],
        "server_memory": lambda: [memory.measure()],
        "round_overhead": lambda: [server_round.measure()],
        "round_parts": round_parts.measure,
    }


def run_alone(name: str, args: argparse.Namespace, folder: Path) -> dict:
    """Run one benchmark in its own process, so that none inherits the memory or the threads of another."""
    command = [sys.executable, "-m", "benchmarks.all", "--only", name, "--json", str(folder / f"{name}.json")]
    for flag in ("real_dir", "ann_dir", "max_videos"):
        if getattr(args, flag) is not None:
            command += [f"--{flag}", str(getattr(args, flag))]
    subprocess.run([*command, "--folder", str(folder / "clips")], check=True)
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def run_one(name: str, clips: Clips) -> dict:
    """Figures of one benchmark by their names, each with its "line" of the table."""
    found = {}
    for result in benchmarks(clips)[name]():
        if isinstance(result, Result):
            found[result.name] = result.to_json() | {"line": result.line()}
        else:
            line = f"{'augment_share':16}{result['share']:.4f} {result['unit']}, limit {result['limit']}"
            found["augment_share"] = result | {"line": line}
    return found


def main() -> None:
    """The command."""
    parser = clip_parser(__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--only", help="one benchmark by its name, in this process")
    parser.add_argument("--folder", type=Path, help="folder for the videos of --only")
    args = parser.parse_args()
    if args.only:
        return write_json(args.json, run_one(args.only, prepare_clips(args.folder, args)))
    started, found = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder:
        clips = prepare_clips(Path(folder) / "clips", args)
        for name in benchmarks(clips):
            print(f"{name} ...", flush=True)
            found |= run_alone(name, args, Path(folder))
    write_json(args.json, found)
    print("\n" + machine(choose_precision("auto", device="auto")))
    print(f"{clips.what}, {(time.monotonic() - started) / 60:.0f} minutes")
    print("\n".join(entry["line"] for entry in found.values()))


if __name__ == "__main__":
    main()

"""A folder of videos of several owners -> frames, lists, partition, federated pre-training, verdict and report.

    fedvssl train --videos my_videos --owners first-folder
    fedvssl train --videos my_videos --owners 4 rounds=30
    python -m data_tools.own_videos --videos my_videos --yes data_dir=/somewhere

With `--owners first-folder` each folder directly in --videos is an owner, and so a client; a number spreads the videos
over as many clients instead. Further folders around a video are its class: with two classes or more retrieval and a
linear probe are told too. Without labels, the usual case, the verdict is told from videos that are held out of every
owner. Writes <data_dir>/<name>, and the run into outputs/<name>; give the command again after a stop.
Words `key=value` are settings of fedvssl.main. Without a GPU it trains experiment=small_clips, else the full recipe.
"""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fedvssl.config import compose
from fedvssl.data.annotations import Annotation
from fedvssl.data.video import zip_path
from fedvssl.files.atomic import read_json, write_json
from fedvssl.files.ending import run_child
from fedvssl.files.environment import free_bytes, gpus, num_cores
from fedvssl.files.names import check_name
from fedvssl.files.progress import clock, show_bytes
from fedvssl.files.runs import OUTPUTS, newest_round
from fedvssl.overrides import parse_overrides, quoted

from .command import command_parser, run_command
from .estimate import choose, estimate
from .extract_frames import FrameFormat, extract_videos, frame_encoder
from .owners import FIRST_FOLDER, Video, has_classes, held_out_of, labels_of, look, write_lists

VIDEOS_FILE = "videos.json"  # of the run: its videos, their owners and places
LEAST_STEPS = 600  # of a client in all rounds; docs/results.md has a federation that learned with about 650
MOST_ROUNDS = 100
UNLABELLED = "eval.protocols={R@1: null, knn_top1_acc: null}"


def recipe(words: Sequence[str], *, sizes: Sequence[int], labelled: bool) -> list[str]:
    """Words for fedvssl.main, by the machine, the owners and the labels; then those of the user.

    Args:
        words: of the user, with the place of the data set.
        sizes: number of training videos of each owner.
        labelled: True if there are classes to evaluate with.
    """
    own = ["data.num_classes=auto", f"pool_size={len(sizes)}", *([] if gpus() else ["experiment=small_clips"])]
    settings = compose("base", parse_overrides([*own, *words]))
    training, rounds = settings["training"], settings["rounds"]
    steps = training["local_epochs"] * -(-int(np.median(sizes)) // training["batch_size"])
    if steps * rounds < LEAST_STEPS and not any(word.removeprefix("--").startswith("rounds=") for word in words):
        rounds = min(-(-LEAST_STEPS // steps), MOST_ROUNDS)
        own.append(f"rounds={rounds}")
        print(f"An owner makes {steps} steps a round, Catch-the-Patch needs some {LEAST_STEPS}: {rounds} rounds.")
    own.append(f"eval.every={max(1, rounds // 4)}")
    return [*own, *([] if labelled else [UNLABELLED]), *words]


def tell_cost(words: Sequence[str], video: Video, sizes: Sequence[int]) -> bool:
    """Print an estimate of the training: time, memory, disk.

    Returns:
        True if a saved round has the whole backbone, and can be evaluated.

    Raises:
        ValueError: for a mistake in the settings, or if the run does not fit on the disk.
    """
    print("Loading PyTorch, and training a few steps for an estimate ...", flush=True)
    from fedvssl.rehearsal import rehearse

    config = compose("base", parse_overrides(words))
    cost = rehearse(config, Annotation(video.name, 0), sizes=sizes)
    on_gpu = f", {show_bytes(cost.gpu_bytes)} of a GPU's for each client" if cost.gpu_bytes else ""
    print(
        f"{config['rounds']} rounds of {len(sizes)} owners: about {clock(cost.seconds)} of training with "
        f"{cost.at_a_time} at a time, {show_bytes(cost.memory_bytes)} of memory{on_gpu}, {show_bytes(cost.disk_bytes)} "
        "on the disk for the run. Evaluations come on top; with the cores at work it may be half as long again.",
        flush=True,
    )
    if cost.disk_bytes > (free := free_bytes(Path(OUTPUTS))):
        raise ValueError(f"{show_bytes(free)} are free in {OUTPUTS}: set keep_last=2 or fewer rounds.")
    if not cost.whole_backbone:
        print("Each owner keeps a part of the backbone with this strategy: nothing is evaluated but the verdict.")
    return cost.whole_backbone


def extract_one(videos: Sequence[Video], folder: Path, frames: FrameFormat) -> Video:
    """Tell an estimate of the frames, and extract one video of medium size for that of the training.

    Raises:
        ValueError: if none of those that were tried can be read.
    """
    by_raw = {video.raw: video for video in videos}
    expected = estimate([*by_raw], frame_encoder(frames), num_processes=num_cores())
    print(expected or "No estimate of the frames: the videos that were tried cannot be read.", flush=True)
    for raw in choose(list(by_raw)):
        video = by_raw[raw]
        extract_videos({video.name: raw}, folder, frames=frames, num_workers=1)
        if zip_path(folder, video.name).is_file():
            return video
    raise ValueError(f"{raw} and other videos cannot be read; the reasons are in {folder / 'extract_report.json'}.")


def step(title: str, module: str, words: Sequence[str]) -> None:
    """Run a command of the package; end with its exit code if it fails, after its own sentence."""
    print(f"\n== {title}", flush=True)
    if code := run_child([sys.executable, "-m", module, *words]):
        sys.exit(code)


def confirmed(*, yes: bool) -> bool:
    """True unless somebody at a terminal says no."""
    return yes or not sys.stdin.isatty() or input("Go on? [Y/n] ").strip().lower() in ("", "y", "yes")


def train_on(args: argparse.Namespace, words: Sequence[str]) -> None:
    """Do all that the command does.

    Raises:
        ValueError: for a mistake, before any long work.
    """
    if not 0 < args.held_out < 1:
        raise ValueError(f"--held_out {args.held_out:g}: give a share between 0 and 1, such as 0.2.")
    if any(word.removeprefix("--").startswith("hydra.run.dir=") for word in words):
        raise ValueError(f"hydra.run.dir: the run is in {OUTPUTS}/<name>; give --name <another> for another run.")
    settings = compose("base", parse_overrides(words))
    videos = look(args.videos, args.owners, seed=settings["seed"])
    name = check_name(args.name or args.videos.resolve().name, where="--name")
    data, run = Path(settings["data_dir"], name), Path(OUTPUTS, name)
    origin = {"data": str(data.resolve()), "held_out": args.held_out, "owners": {v.name: v.owner for v in videos}}
    refuse_other_videos(run, origin)
    words = [f"--data_dir={settings['data_dir']}", f"--data.name={quoted(name)}", f"--hydra.run.dir={run}", *words]
    labelled, frames = tell_videos(videos), FrameFormat(short_side=144 if gpus() else 72)
    sizes = [max(1, round((1 - args.held_out) * number)) for number in Counter(v.owner for v in videos).values()]
    sample = extract_one(videos, data / "zips", frames)
    run_words = recipe(words, sizes=sizes, labelled=labelled)
    if not (whole := tell_cost(run_words, sample, sizes)):
        run_words.append("eval.every=null")
    if not confirmed(yes=args.yes):
        raise ValueError("nothing was trained; give the command again to go on")
    raws = {video.name: video.raw for video in videos}
    extract_videos(raws, data / "zips", frames=frames, num_workers=num_cores()).print()
    there = [video for video in videos if zip_path(data / "zips", video.name).is_file()]
    if labelled and not has_classes(there):
        labelled = False
        run_words.insert(0, UNLABELLED)
    write_json(run / VIDEOS_FILE, origin)
    write_lists(there, held_out_of(there, args.held_out, seed=settings["seed"]), data / "annotations")
    if lost := {video.owner for video in videos} - {video.owner for video in there}:
        print(f"No video can be read of {', '.join(sorted(lost))}: trained without.")
        run_words.append(f"pool_size={len(sizes) - len(lost)}")
    step("federated pre-training", "fedvssl.main", run_words)
    finish(run, labelled=labelled and whole)


def refuse_other_videos(run: Path, origin: Mapping[str, object]) -> None:
    """Refuse to write over the lists of a run that began with other videos, owners or places.

    Raises:
        ValueError: naming what differs.
    """
    path = run / VIDEOS_FILE
    if not path.is_file():
        return
    before = read_json(path)
    if differs := [name for name, value in origin.items() if before.get(name) != value]:
        what = {
            "data": "in another data_dir",
            "held_out": "with another --held_out",
            "owners": "on other videos or owners",
        }
        raise ValueError(f"{run} is a run {what[differs[0]]}: give --name <another> for a new one, or remove it.")


def tell_videos(videos: Sequence[Video]) -> bool:
    """Print the numbers of videos and owners; returns whether there are classes to evaluate with."""
    owners, labelled = Counter(video.owner for video in videos), has_classes(videos)
    told = f"{len(labels_of(videos))} classes" if labelled else "no classes"
    print(f"{len(videos)} videos of {len(owners)} owners, {told}: " + ", ".join(f"{o} {n}" for o, n in owners.items()))
    return labelled


def finish(run: Path, *, labelled: bool) -> None:
    """Tell what was learned: the verdict, with labels also retrieval and a linear probe, and the report."""
    step("what was learned, without labels", "fedvssl.verdict", [f"run={run}"])
    if labelled:
        step("what was learned, by the classes", "fedvssl.evaluate", ["retrieval", "linear_probe", f"run={run}"])
    step("report", "fedvssl.report", [str(run)])
    print(f"The backbone is {newest_round(run)}: fedvssl.load_backbone({str(run)!r}), or {shlex.quote(f'run={run}')}.")


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = command_parser(__doc__)
    parser.add_argument("--videos", type=Path, required=True, help="folder with the videos of all owners")
    parser.add_argument("--owners", default=FIRST_FOLDER, help=f"{FIRST_FOLDER}, or a number of owners to make up")
    parser.add_argument("--held_out", type=float, default=0.2, help="share of each owner's videos to measure with")
    parser.add_argument("--name", help="of the data set and the run; default: that of the folder")
    parser.add_argument("--yes", action="store_true", help="do not ask before the long work")
    args, words = parser.parse_known_args(argv)
    if strange := [word for word in words if "=" not in word]:
        parser.error(f"{strange[0]} is no flag of this command and no setting such as rounds=20")
    train_on(args, words)


if __name__ == "__main__":
    run_command(main)

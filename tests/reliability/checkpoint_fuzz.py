"""Damaged, hostile and unfitting checkpoints of every form, through the reader that all commands share.

    python -m tests.reliability.checkpoint_fuzz                   6,000 files, some minutes on one core
    python -m tests.reliability.checkpoint_fuzz --only 4711       one of them again

Each must be read with the numbers that it was written with, or end in one sentence of ours that names the file.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import torch

from fedvssl import finetune_preprocess
from fedvssl.files.backbone import load_backbone
from fedvssl.models.r3d import R3D
from tests.reliability.changes import pick
from tests.reliability.checkpoint_forms import DAMAGES, FORMS, WITHOUT_CHECKSUM, State, change_content, hostile_files
from tests.reliability.table import Row, store

LONGEST = 600  # characters of a sentence
FORBIDDEN = ("weights_only", "torch.", "pickle.load", "allow_pickle", "Traceback", "Errno", "0x")
CONTENT, HOSTILE = "of other contents", "hostile, or no checkpoint"
SENTENCE, SAME, OTHER, WRONG, CRASH = "sentence", "same", "other numbers", "wrongly accepted", "no sentence"
WORDS = ["model.depth=10", "model.width=2"]
COMMAND_EVERY = 50  # files that also go through a whole command


@dataclass(frozen=True)
class Trial:
    """A file and what came of it: one of the five fates, with the words that told it."""

    kind: str
    form: str
    fate: str
    words: str = ""


def model() -> R3D:
    return R3D(10, width=2)


def original() -> State:
    """Numbers of the checkpoints, by the usual names."""
    torch.manual_seed(0)
    return {f"backbone.{name}": tensor for name, tensor in model().state_dict().items()}


def draw(number: int, *, seed: int, state: State, marker: Path) -> tuple[str, str, bytes]:
    """Kind of damage, form and bytes of a file; `number` and `seed` decide them."""
    rng = np.random.default_rng([seed, number])
    kind = pick(rng, (*DAMAGES, CONTENT, HOSTILE))
    if kind == HOSTILE:
        files = hostile_files(marker)
        name = pick(rng, [*files])
        return kind, name, files[name]()
    form = pick(rng, [*FORMS])
    if kind == CONTENT:
        form = "npz" if form == "published npz" else form  # its arrays have no names
        return kind, form, FORMS[form](change_content(state, rng))
    data = bytearray(FORMS[form](state))
    DAMAGES[kind](data, rng)
    return kind, form, bytes(data)


def run_trial(number: int, *, seed: int, folder: Path, state: State) -> Trial:
    """Write one file and read it."""
    marker = folder / "ran"
    kind, form, data = draw(number, seed=seed, state=state, marker=marker)
    path = folder / f"file{pick(np.random.default_rng(number), ('.npz', '.pth', '.safetensors', '.pth.tar'))}"
    path.write_bytes(data)
    try:
        fate, words = _read(path, state, form=form, kind=kind)
        if fate == SENTENCE and number % COMMAND_EVERY == 0:
            fate, words = _command(path, folder / "out.pth")
    except Exception as error:
        fate, words = CRASH, repr(error)
    if marker.exists():
        fate, words = WRONG, "a call in the file was run"
        marker.unlink()
    path.unlink()
    return Trial(kind, form, fate, words)


def _read(path: Path, state: State, *, form: str, kind: str) -> tuple[str, str]:
    backbone, lines = model(), []
    try:
        load_backbone(backbone, path, tell=lines.append)
    except ValueError as error:
        return (SENTENCE if is_sentence(str(error), path) else CRASH), str(error)
    loaded = backbone.state_dict()
    if kind not in (CONTENT, HOSTILE):
        if all(torch.equal(loaded[name.removeprefix("backbone.")], tensor) for name, tensor in state.items()):
            return SAME, ""
        if form in WITHOUT_CHECKSUM:
            return OTHER, ""
    return WRONG, "; ".join(lines)


def _command(path: Path, output: Path) -> tuple[str, str]:
    """The same through a command: exit code 2, one line, no file."""
    err = StringIO()
    with redirect_stderr(err), redirect_stdout(StringIO()):
        code = finetune_preprocess.main([f"--pretrained_model_path={path}", f"--output_path={output}", *WORDS])
    words = err.getvalue().removeprefix("error: ")
    good = code == 2 and words.count("\n") == 1 and is_sentence(words.strip(), path) and not output.exists()
    return (SENTENCE if good else CRASH), words


def is_sentence(words: str, path: Path) -> bool:
    """True for a printable line that names the file, ends with a full stop, and repeats no library's advice."""
    own = words.replace(str(path), "")
    return (
        str(path) in words
        and words.isprintable()
        and words.endswith(".")
        and len(own) < LONGEST
        and not any(word in own for word in FORBIDDEN)
    )


def rows_of(trials: list[Trial]) -> list[Row]:
    """A row for each kind of damage."""
    fates = Counter((trial.kind, trial.fate) for trial in trials)
    rows = []
    for kind in (*DAMAGES, CONTENT, HOSTILE):
        sentences, same, other, wrong, crash = (fates[kind, f] for f in (SENTENCE, SAME, OTHER, WRONG, CRASH))
        harmless = f"{same:,} read unharmed, " * bool(same)
        harmless += f"{other:,} with other numbers, of forms without a checksum, " * bool(other)
        seen = f"{sentences:,} sentences, {harmless}{crash} tracebacks, {wrong} wrongly accepted"
        rows.append(Row(f"a checkpoint is {kind}", PROVOKED, PROMISED, seen, sentences + same + other + wrong + crash))
    return rows


PROVOKED = f"{', '.join(FORMS)}, changed at random"
PROMISED = "one sentence that names the file, nothing in it is run; or it is read as it was written"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=6_000, help="files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of the only file to read")
    args = parser.parse_args()
    started, state, trials = time.process_time(), original(), list[Trial]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.count) if args.only is None else [args.only]:
            trials.append(run_trial(number, seed=args.seed, folder=Path(folder), state=state))
            if trials[-1].fate in (WRONG, CRASH) or args.only is not None:
                print(f"--seed {args.seed} --only {number}: {trials[-1]}", flush=True)
    faulty = sum(trial.fate in (WRONG, CRASH) for trial in trials)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    seconds = time.process_time() - started
    print(f"{len(trials):,} files in {seconds:.0f} s of one core, at most {peak:,} MiB, {faulty} with faults")
    if args.only is None and not faulty:
        store("checkpoint_fuzz", rows_of(trials))
    return int(bool(faulty))


if __name__ == "__main__":
    sys.exit(main())

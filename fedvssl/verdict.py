"""Tell what a run has learned, without labels, on videos that were held out.

    python -m fedvssl.verdict run=last
    python -m fedvssl.verdict checkpoint=outputs/<DATE>/<TIME>/fedvssl_results/round-20-weights.npz data_dir=elsewhere

The held-out videos are those of the test list of the run's data. Their pretext loss stands beside that of a predictor
that looks at no video; the motion probe and the spread of the features stand beside those of random weights. Writes
verdict.json into the folder of the run, where the report finds it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedvssl.chosen_run import with_run
from fedvssl.files.atomic import write_json
from fedvssl.files.ending import exit_code
from fedvssl.files.given import given_round
from fedvssl.files.lock import owned_output
from fedvssl.overrides import parse_overrides
from fedvssl.reporting.verdict import VERDICT_FILE, sentence, table

CHECKPOINT = "checkpoint="


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return exit_code(lambda: tell(_parse(argv)))


def _parse(argv: Sequence[str] | None) -> list[str]:
    parser = argparse.ArgumentParser(
        prog="python -m fedvssl.verdict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="+", metavar="run=<name>", help="or checkpoint=<file>; and settings of the run")
    return parser.parse_args(argv).words


def tell(words: Sequence[str]) -> None:
    """Evaluate the run that the words name, print a table and a verdict, and write verdict.json.

    Raises:
        ValueError: if no round is named, its folder is not that of a run, or training had the held-out videos.
    """
    words = with_run("verdict", words)
    named = [word.partition("=")[2] for word in words if word.removeprefix("--").startswith(CHECKPOINT)]
    if not named:
        raise ValueError(f"Name a round with run=last, run=<name>, or {CHECKPOINT}<run>/round-<N>-weights.npz.")
    given_round(checkpoint := Path(named[-1]).expanduser())
    others = [word for word in words if not word.removeprefix("--").startswith(CHECKPOINT)]
    print("Loading PyTorch ...", flush=True)
    from fedvssl.held_out import measure
    from fedvssl.trained_run import read_trained

    run = read_trained(checkpoint, parse_overrides(others))
    found = measure(run)
    found["verdict"] = sentence(found)
    print(table(found), "", found["verdict"], sep="\n")
    with owned_output(path := run.folder / VERDICT_FILE):
        write_json(path, found)
    print(path)


if __name__ == "__main__":
    sys.exit(main())

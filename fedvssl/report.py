"""Self-contained HTML page about a run: it loads nothing from elsewhere, so it can be sent and kept.

    python -m fedvssl.report run=last
    python -m fedvssl.report outputs/<DATE>/<TIME>/fedvssl_results
    python -m fedvssl.report outputs/<DATE>/<TIME>/fedvssl_results --include finetune_results scratch_results

Shows settings, partition, losses, costs, evaluations, tables, pictures, machines, and commands for missing parts.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import fedvssl
from fedvssl.files.atomic import atomic_path
from fedvssl.files.ending import exit_code
from fedvssl.files.lock import owned_output
from fedvssl.files.runs import LAST, PRETRAINING, RECOGNIZER, Asked, choose
from fedvssl.reporting import page, pretraining, results, verdict
from fedvssl.reporting.folders import Folder, read_included, read_pretraining


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return exit_code(lambda: write(_parse(argv)))


def write(arguments: argparse.Namespace) -> None:
    """Write the page that the command line asks for.

    Raises:
        ValueError: if a folder is none of a run, or cannot be read.
    """
    folder = run_folder(arguments.run, PRETRAINING)
    output = arguments.output or folder / "report.html"
    if output.is_dir():
        raise ValueError(f"--output {output} is a folder: name a file, such as {output / 'report.html'}.")
    included = read_included([run_folder(name, RECOGNIZER) for name in arguments.include])
    run = read_pretraining(folder)
    with owned_output(output), atomic_path(output) as temporary:
        temporary.write_text(render(run, included), encoding="utf-8")
    print(output)


def run_folder(name: str, asked: Asked) -> Path:
    """An existing folder as it is, and the one that `last`, `run=last` or a name stands for.

    Raises:
        ValueError: if it stands for none, or for several.
    """
    name = name.removeprefix("run=")
    if name != LAST and (folder := Path(name).expanduser()).is_dir():
        return folder  # evaluations alone may be in it
    found = choose(name, asked)
    return found.parent if found.is_file() else found


def render(run: Folder, included: Sequence[Folder]) -> str:
    """The page about a pre-training run and the folders that belong to it."""
    setting = {name: pretraining.setting_text(run, key) for name, key in pretraining.SETTINGS.items()}
    method = setting["strategy"]
    if setting["alpha (mix_coeff)"]:
        method += f" (alpha {setting['alpha (mix_coeff)']}, beta {setting['beta (swbeta)']})"
    return page.page(
        f"{method} on {setting['data']}",
        f"{setting['clients']} clients, {setting['rounds']} rounds, seed {setting['seed']} · {run.path}",
        pretraining.tiles(run) + results.tiles(run, included),
        [
            ("Configuration", pretraining.configuration(run)),
            ("Partition", pretraining.partition(run)),
            ("Loss", pretraining.loss(run)),
            *([("Held-out videos", verdict.held_out(run))] if run.medium == "video" else []),
            ("Seconds and bytes", pretraining.costs(run)),
            ("Evaluation", pretraining.evaluations(run)),
            ("Fine-tuning", results.fine_tuning(run, included)),
            ("Results", results.tables(run, included)),
            ("Confusion", results.confusion(run, included)),
            (f"Nearest {run.medium}s", results.strips(run, included)),
            ("Machine", results.machines([run, *included])),
            ("Citation", results.citation(run, included)),
        ],
        end=f"Written by python -m fedvssl.report, fedvssl {fedvssl.__version__}.",
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fedvssl.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="pre-training run: its folder or name, or `last`")
    parser.add_argument(
        "--include",
        nargs="+",
        action="extend",
        default=[],
        metavar="FOLDER",
        help="work_dirs of fine-tuning, or their names",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: report.html in the folder of the run")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

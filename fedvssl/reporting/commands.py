"""Commands that a report names for what is missing, with the data and the model of its run.

They can be typed as they are, in the folder in which the run was started.
"""

import shlex

from fedvssl.reporting.folders import Folder
from fedvssl.run_words import words_of

WORK_DIR = "finetuned"  # of the fine-tuning that a report proposes


def evaluation_command(run: Folder, protocol: str) -> str:
    """Command that evaluates the last round of this run."""
    return f"python -m fedvssl.{protocol} {shlex.join([f'checkpoint={_last_round(run)}', *_words(run, protocol)])}"


def finetuning_commands(run: Folder) -> str:
    """Command that fine-tunes the last round, and the report's own with its results."""
    words = [f"pretrained={_last_round(run)}", f"work_dir={WORK_DIR}", *_words(run, "finetune")]
    return f"python -m fedvssl.finetune finetune {shlex.join(words)}\n{report_command(run)}"


def test_command(run: Folder) -> str:
    """Command that tests the fine-tuned recognizer, and the report's own with its result."""
    words = [f"work_dir={WORK_DIR}", *_words(run, "test")]
    return f"python -m fedvssl.test test {shlex.join(words)}\n{report_command(run)}"


def report_command(run: Folder) -> str:
    """Command that makes the report again, with the fine-tuning."""
    return f"python -m fedvssl.report {shlex.quote(str(run.path))} --include {WORK_DIR}"


def _last_round(run: Folder) -> str:
    return str(run.path / f"round-{run.rounds[-1]['server_round'] if run.rounds else '<N>'}-weights.npz")


def _words(run: Folder, command: str) -> list[str]:
    return words_of(run.config, command)

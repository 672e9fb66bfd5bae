"""The file that a command line names as its checkpoint, told before PyTorch is imported if it is none."""

from pathlib import Path

from fedvssl.files.foreign import first_bytes
from fedvssl.files.rounds import round_of

RANDOM = "random"  # the baseline of every evaluation, and a checkpoint that asks for the baselines alone
# Command -> sentences for a file that is not named, and for one that does not exist; "" for all evaluations.
ADVICE = {
    "": (
        "Name the backbone with checkpoint=<file>: a round-<N>-weights.npz, model_pretrained.pth, a fine-tuned "
        "checkpoint, or checkpoint=random for the baselines alone; or with run=last, or run=<name or folder>.",
        "No file {}: name a checkpoint with checkpoint=<file>, or take run=last or run=<name or folder>.",
    ),
    "export": (
        "Name the file to export: python -m fedvssl.export checkpoint=<file>, or run=last.",
        "No checkpoint {}: name a file that holds a backbone with checkpoint=<file>, or take run=last.",
    ),
    "attack": (
        "Name a run of split learning with run=<name>, or checkpoint=<run>/round-<N>-weights.npz.",
        "No file {}: name a round of split learning with run=<name>, or checkpoint=<run>/round-<N>-weights.npz.",
    ),
    "test": (
        "Name the checkpoint to test with checkpoint=<file>, run=last or run=<name or folder>.",
        "No checkpoint {}: fine-tune first, or name one with checkpoint=<file> or work_dir=<folder>.",
    ),
    "finetune": (
        "Name the backbone with pretrained=<file> or run=<name>, or set from_scratch=true.",
        "No pre-trained backbone {}: write it with fedvssl.finetune_preprocess, name another with pretrained=<file> or "
        "run=<name>, or set from_scratch=true.",
    ),
    "main": ("", "No file {}, which init names: name a checkpoint, or leave init out for random weights."),
    "finetune_preprocess": ("", "No file {}: name a checkpoint, or take run=last or run=<name or folder>."),
}


def given_file(path: str | Path | None, *, command: str) -> Path:
    """The checkpoint that a user names.

    Args:
        path: as it is named; None if it is not.
        command: that reads it.

    Raises:
        ValueError: if no file is named, it does not exist, or it is of a kind that nobody means to give.
    """
    unnamed, missing = ADVICE.get(command, ADVICE[""])
    if not path:
        raise ValueError(unnamed)
    found = Path(path).expanduser()
    if not found.exists():
        raise ValueError(missing.format(found))
    first_bytes(found)
    return found


def given_round(checkpoint: Path) -> int:
    """Number of a saved round in the folder of its run.

    Raises:
        ValueError: if the file is none.
    """
    number = round_of(checkpoint)
    if number is None or not (checkpoint.is_file() and (checkpoint.parent / "config.yaml").is_file()):
        raise ValueError(
            f"{checkpoint} is no round-<N>-weights.npz in the folder of its run: give one of fedvssl.main."
        )
    return number

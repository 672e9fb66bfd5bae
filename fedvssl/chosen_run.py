"""`run=last`, `run=<name>` or `run=<folder>` on a command line, in the place of the checkpoint or folder of a run.

The word becomes a setting that the command has, before Hydra sees it, so a recorded configuration names a file. The
commands that show samples to its backbone get the data, the model and the size of the pictures of the run too.
"""

from collections.abc import Sequence
from pathlib import Path

from fedvssl.files.rounds import round_of
from fedvssl.files.run_log import read_config
from fedvssl.files.runs import BACKBONE, BEST, CONFIG, FINE_TUNED, PRETRAINING, RECOGNIZER, ROUND, Asked, choose
from fedvssl.run_words import unsaid, words_of

# Command -> the setting that a run gives it, and what it asks of the run.
PLACES: dict[str, tuple[str, Asked]] = {
    "main": ("hydra.run.dir", PRETRAINING),  # to be continued
    **dict.fromkeys(("retrieval", "knn", "linear_probe", "motion_probe", "semi"), ("checkpoint", BACKBONE)),
    **dict.fromkeys(("evaluate", "export"), ("checkpoint", BACKBONE)),
    "finetune": ("pretrained", BACKBONE),
    "test": ("checkpoint", RECOGNIZER),
    "finetune_preprocess": ("pretrained_model_path", ROUND),
    **dict.fromkeys(("verdict", "attack", "show_task"), ("checkpoint", ROUND)),
}
# They take no data, or read the settings of the run themselves.
WITHOUT_WORDS = {"main", "finetune_preprocess", "verdict", "attack", "show_task"}


def with_run(command: str, words: Sequence[str]) -> list[str]:
    """Words with `--<setting>=<file or folder>` in the place of `run=<name>`, and the run's own words unless replaced.

    A test of a run writes its result into that run's folder, unless `work_dir` names another.

    Raises:
        ValueError: if no run or several are meant, or the setting is given too and differs.
    """
    names, rest = _taken(words, "run")
    if not names or command not in PLACES:
        return [*words]
    setting, asked = PLACES[command]
    path = choose(names[-1], asked)
    given, _ = _taken(rest, setting)
    if given and Path(given[-1]).expanduser().resolve() != path.resolve():
        raise ValueError(f"run={names[-1]} is {path}, and {setting}={given[-1]} is another: give one of them.")
    added = [] if given else [f"--{setting}={path}"]
    if command == "test" and not _taken(rest, "work_dir")[0]:
        added.append(f"--work_dir={path.parent}")
    if command not in WITHOUT_WORDS:
        added += words_of_its_run(path, command, rest)
    return [*rest, *added]


def with_origin(command: str, words: Sequence[str]) -> list[str]:
    """Words as in `with_run`, where `checkpoint=` in the folder of its own run brings the words of the run too."""
    words = with_run(command, words)
    given, rest = _taken(words, "checkpoint")
    path = Path(given[-1]).expanduser() if given else Path()
    if round_of(path) is None and path.name not in (FINE_TUNED, BEST):
        return words  # any other file may lie beside the configuration of another run
    return [*words, *words_of_its_run(path, command, rest)]


def words_of_its_run(checkpoint: Path, command: str, given: Sequence[str]) -> list[str]:
    """Words of the run in whose folder a checkpoint lies, as flags, without those that are given.

    Raises:
        ValueError: if they would name a class of a model: a folder from elsewhere must not choose what runs here.
    """
    path = checkpoint.parent / CONFIG
    words = unsaid(words_of(read_config(path), command), given)
    if named := next((word for word in words if word.startswith("model._target_=")), None):
        raise ValueError(
            f"{path} names a model that is not in conf/model: give model=<name>, or {named} and its settings, yourself."
        )
    return [f"--{word}" for word in words]


def _taken(words: Sequence[str], key: str) -> tuple[list[str], list[str]]:
    """Values of `key=value` and `--key=value` among the words, and the other words."""
    starts = (f"{key}=", f"--{key}=")
    values = [word.partition("=")[2] for word in words if word.startswith(starts)]
    return values, [word for word in words if not word.startswith(starts)]

"""What a submission carries: settings, and the name of its run. It needs no torch."""

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from fedvssl.config import Config, compose
from fedvssl.files.names import check_name
from fedvssl.overrides import parse_overrides

KEYS = ("overrides", "run-name")  # as in [tool.flwr.app.config] of pyproject.toml
RESULTS = "outputs"  # below the folder that the SuperLink works in
# Settings of base.yaml that are others here, where a node may be gone without a word.
DEFAULTS = ("round_timeout=1800", "start_timeout=1800")
# Settings that a node's owner decides, or the name of the run.
ELSEWHERE = ("engine", "client_resources", "hydra", "training.num_workers")


def read_run_config(told: Mapping[str, object]) -> tuple[str, str]:
    """Overrides and name of a submission.

    Raises:
        ValueError: for a key that is unknown, or a value that is no text or no name of a folder.
    """
    for name, value in told.items():
        if name not in KEYS:
            raise ValueError(f"The run has no '{name}': settings belong into overrides, as in overrides='rounds=3'.")
        if not isinstance(value, str):
            raise ValueError(f"{name}={value!r} must be text: put it into quotes.")
    overrides, run_name = (str(told.get(name, "")) for name in KEYS)
    if not run_name:
        raise ValueError("The run has no name: give run-name='...', the folder of its results; the same continues it.")
    return overrides, check_name(run_name, where="run-name")


def read_settings(overrides: str) -> Config:
    """Settings of a submission.

    Args:
        overrides: words as on the command line of fedvssl.main, quoted as in a shell.

    Raises:
        ValueError: for a mistake, and for a setting that is decided elsewhere.
    """
    try:
        words = shlex.split(overrides)
    except ValueError as error:
        raise ValueError(f"overrides={overrides!r} has a quotation mark without its second one: mend it.") from error
    words = parse_overrides(words)
    refuse_elsewhere(words)
    return compose("base", [*DEFAULTS, *words])


def refuse_elsewhere(words: Collection[str], names: Collection[str] = ELSEWHERE) -> None:
    """Reject settings that a submission has no say in.

    Args:
        words: overrides.
        names: of such settings and sections.

    Raises:
        ValueError: naming the first of them.
    """
    for word in words:
        key = word.lstrip("+~").partition("=")[0]
        if any(key == name or key.startswith((f"{name}.", f"{name}/")) for name in names):
            where = "run-name names the run's folder" if key.startswith("hydra") else "each node's owner decides it"
            raise ValueError(f"'{word}' has no effect on a submission: {where}. Leave it out.")


def folder_of(run_name: str) -> Path:
    """Folder of a run, absolute."""
    return Path(RESULTS, run_name).absolute()

"""Answers of a command before PyTorch is imported, which takes seconds: its help, a mistake in its settings, or what
it would read and is not there.
"""

import os
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

import fedvssl
from fedvssl.chosen_run import with_run
from fedvssl.config import Config, compose, read_command_line
from fedvssl.data.annotations import found_list, number_of_lists
from fedvssl.data.split import Split, found_media_dir, list_path
from fedvssl.files.ending import exit_code
from fedvssl.files.given import RANDOM, given_file
from fedvssl.help import NAMED, show_help
from fedvssl.overrides import parse_overrides

DRY_RUN = ("--dry_run", "--dry-run")


def answered(command: str, argv: Sequence[str] | None = None) -> bool:
    """Print the help of `fedvssl.<command>` or the version if its words ask for it; return whether they do.

    Else print that PyTorch is loaded next, the longest silence of many a command.

    Args:
        command: name of the module.
        argv: its words; None takes those of this process.

    Raises:
        SystemExit: with code 2 after a sentence, if its settings cannot be composed, one is out of range, or a
            checkpoint, a list or the folder of the data is not there.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    done = False

    def answer() -> None:
        """Help or version, or else what is wrong with the settings."""
        nonlocal done
        if done := "--version" in words:
            print(f"fedvssl {fedvssl.__version__}")
        elif not (done := show_help(command, words if words or command != "evaluate" else ["--help"])):
            check_settings(command, words)
            if (
                command != "main" and "LOCAL_RANK" not in os.environ
            ):  # main does, and is no further process of Lightning
                print("Loading PyTorch ...", flush=True)

    if code := exit_code(answer):
        sys.exit(code)
    return done


def check_settings(command: str, words: Sequence[str]) -> None:
    """Compose the configuration of a command and look for its files; ValueError tells a mistake.

    fedvssl.main does it by itself.
    """
    if command in ("export", "sweep", "attack"):
        words = [word for word in words if command != "sweep" or word not in DRY_RUN]
        look_for_files(command, compose(command, parse_overrides(with_run(command, words))))
    elif command in ("finetune", "test"):
        look_for_files(command, read_command_line(command, words))
    elif command != "main":
        named = takewhile(lambda word: "=" not in word and not word.startswith("-"), words)
        protocols = [*named] if command in NAMED else [command]
        overrides = words[len(protocols) :] if command in NAMED else words
        for protocol in protocols:
            look_for_files("retrieval", read_command_line("retrieval", [protocol, *overrides]))


def look_for_files(command: str, config: Config, *, begun: bool = False) -> None:
    """Look for the checkpoint, the lists and the folder of the data that a command reads.

    Args:
        command: its name.
        config: its configuration.
        begun: True for a run that goes on: it does not read again what it began from.

    Raises:
        ValueError: naming the first that is not there.
    """
    key = {"main": "init", "finetune": "pretrained"}.get(command, "checkpoint")
    unread = {"main": begun or config.get("init") is None, "finetune": config.get("from_scratch"), "sweep": True}
    if not unread.get(command, config.get(key) == RANDOM):
        given_file(config[key], command=command)
    if command == "main":
        folder, least = Path(config["partition_dir"]), config["strategy"]["min_fit_clients"]
        number_of_lists(folder, config["pool_size"], at_least=least)
    if command not in ("export", "attack"):
        data = Split.of(config["data"])
        for path in lists_of(command, data, splits=config.get("splits")):
            found_list(path)
        found_media_dir(data.media_dir)


def lists_of(command: str, data: Split, *, splits: object) -> list[Path]:
    """Lists that a command reads.

    Args:
        command: its name.
        data: the split.
        splits: of a sweep, which checks itself that they are numbers.
    """
    if command == "main":
        return []  # those of the clients
    if command == "sweep":
        return [list_path(data.annotation_dir, split, "train") for split in splits] if isinstance(splits, list) else []
    if command == "test":
        return [data.list_path("test") if data.validation is None else data.whole_train_list]
    return [*data.lists_read().values()]

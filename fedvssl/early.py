"""Answers of a command before PyTorch is imported, which takes seconds: its help, or a mistake in its settings."""

import sys
from collections.abc import Sequence
from itertools import takewhile

import fedvssl
from fedvssl.chosen_run import with_run
from fedvssl.config import compose, read_command_line
from fedvssl.files.ending import failed
from fedvssl.help import NAMED, show_help
from fedvssl.overrides import parse_overrides

DRY_RUN = ("--dry_run", "--dry-run")


def answered(command: str, argv: Sequence[str] | None = None) -> bool:
    """Print the help of `fedvssl.<command>` or the version if its words ask for it; return whether they do.

    Args:
        command: name of the module.
        argv: its words; None takes those of this process.

    Raises:
        SystemExit: with code 2 after a sentence, if its settings cannot be composed, or one is out of range.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if "--version" in words:
        print(f"fedvssl {fedvssl.__version__}")
        return True
    if show_help(command, words if words or command != "evaluate" else ["--help"]):
        return True
    try:
        check_settings(command, words)
    except (ValueError, OSError) as error:
        sys.exit(failed(error, code=2))
    return False


def check_settings(command: str, words: Sequence[str]) -> None:
    """Compose the configuration of a command; ValueError tells a mistake. fedvssl.main does it by itself."""
    if command in ("export", "sweep", "attack"):
        words = [word for word in words if command != "sweep" or word not in DRY_RUN]
        compose(command, parse_overrides(with_run(command, words)))
    elif command in ("finetune", "test"):
        read_command_line(command, words)
    elif command != "main":
        named = takewhile(lambda word: "=" not in word and not word.startswith("-"), words)
        protocols = [*named] if command in NAMED else [command]
        overrides = words[len(protocols) :] if command in NAMED else words
        for protocol in protocols:
            read_command_line("retrieval", [protocol, *overrides])

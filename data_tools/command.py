"""Common parts of the data tools: their parser, and their end."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from fedvssl.files.ending import exit_code
from fedvssl.overrides import as_flags


def command_parser(description: str | None) -> argparse.ArgumentParser:
    """Parser that shows the module docstring as it is written and the defaults of all flags.

    It takes `key=value` for `--key=value`, as the commands that have a configuration do.
    """

    class Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter): ...

    class Parser(argparse.ArgumentParser):
        def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
            words = sys.argv[1:] if args is None else args
            return super().parse_known_args(as_flags(words, self._option_string_actions), namespace)

    return Parser(description=description, formatter_class=Formatter)


def run_command(main: Callable[[], object]) -> None:
    """Run a command; end with `error: <sentence>` if the user or the machine is at fault."""
    if code := exit_code(main):
        sys.exit(code)

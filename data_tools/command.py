"""Common parts of the data tools: mistakes become one sentence on stderr and exit code 2."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from fedvssl.files.ending import end_code, end_word, failed, interruptible
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
    try:
        with interruptible():
            main()
    except (ValueError, OSError) as error:
        sys.exit(failed(error, code=2))
    except KeyboardInterrupt as error:
        sys.exit(failed(f"{end_word(error)}; run the same command again to go on.", code=end_code(error)))

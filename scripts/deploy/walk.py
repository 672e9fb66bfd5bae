"""Run the bash blocks of a page word for word, one after the other in one shell, as a reader would type them.

    python scripts/deploy/walk.py docs/deployment.md [--home <empty folder>]

The home folder of the shell is a temporary one, or --home, so that nothing of one's own is touched. Each block is
printed with its seconds and its exit code; the first one that fails ends the walk, with exit code 1.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "walk: this block has ended with "


def blocks(page: str) -> list[str]:
    return BLOCK.findall(page)


def walk(commands: Sequence[str], home: Path) -> int:
    """Run the blocks in one shell in the checkout; returns the exit code. All that they left running ends."""
    shell = subprocess.Popen(
        ["bash"],
        cwd=ROOT,
        env={**os.environ, "HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        for number, block in enumerate(commands, start=1):
            started = time.perf_counter()
            print(f"== block {number} of {len(commands)}\n{block}", end="", flush=True)
            code = run_block(shell, block)
            print(f"== block {number}: {time.perf_counter() - started:.1f} s, exit code {code}\n", flush=True)
            if code:
                return 1
        return 0
    finally:
        with suppress(ProcessLookupError):  # nothing was left running
            os.killpg(shell.pid, signal.SIGTERM)
        shell.wait()


def run_block(shell: subprocess.Popen[str], block: str) -> int:
    """Run a block to its end, showing what it prints; returns its exit code."""
    assert shell.stdin is not None and shell.stdout is not None, "pipes"
    # In brackets of bash, so that the first command that fails decides, and variables stay.
    shell.stdin.write(f"{{ set -e; {block}set +e; }} < /dev/null\necho '{END}'$?\n")
    shell.stdin.flush()
    for line in shell.stdout:
        if line.startswith(END):
            return int(line.removeprefix(END))
        print(line, end="", flush=True)
    return shell.wait() or 1  # `set -e` has ended the shell


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--home", type=Path, help="home folder of the shell, kept; default: a temporary one")
    args = parser.parse_args(argv)
    try:
        commands = blocks(args.page.read_text(encoding="utf-8"))
    except OSError:
        print(f"error: {args.page} cannot be read: give a page of docs/.", file=sys.stderr)
        return 2
    if args.home is not None:
        args.home.mkdir(parents=True, exist_ok=True)
        return walk(commands, args.home.absolute())
    with TemporaryDirectory(prefix="fedvssl-walk-") as home:
        return walk(commands, Path(home))


if __name__ == "__main__":
    sys.exit(main())

"""Junk on the command line of every command: random settings of its configuration with values that do not fit them.

    python -m tests.reliability.settings                   writes its rows into docs/reliability.md
    python -m tests.reliability.settings --times 50 knn    one command, stores nothing

A word is composed as the command does it before PyTorch is imported; what passes is built, as the command does it
before it opens a file. Each word must end in one sentence, or be a value that the setting may have.
"""

import argparse
import io
import logging
import math
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import cache
from typing import Any

import numpy as np

from data_tools import build_annotations, extract_frames, partition, prepare
from fedvssl import finetune_preprocess, report
from fedvssl.building import build, build_task
from fedvssl.config import Config, compose, for_hydra
from fedvssl.early import check_settings
from fedvssl.export import checked_formats
from fedvssl.files.settings import flat
from fedvssl.overrides import parse_overrides
from fedvssl.preflight import check_finetuning, settle
from fedvssl.sweep import read
from tests.federation import strategy_of
from tests.reliability.table import Row, store

TIMES, SEED = 60, 18
JUNK = (
    *("nan", "inf", "-inf", ".nan", "1e400", "null", "-1", "-0.5", "0", "1.5", "1e12", "1000000000000", "true", "abc"),
    *("'7'", "[]", "[a]", "[1,null]", "[nan]", "[-1]", "[[1,2],[3]]", "{}", "{a: 1}", "{a: {b: [1]}}", "''", "' '"),
    *(
        "${nowhere}",
        "${data_dir",
        "[1",
        "'a",
        "a=b",
        "a,b",
        "1,2",
        "\N{SNOWMAN}",
        "../..",
        "a\tb",
        "x" * 5000,
        "9" * 50,
    ),
)
RESULTS = ("sentence", "accepted", "wrongly accepted")
LONGEST = 1000  # letters of a sentence, which may list names
FOREIGN = re.compile(
    r"NoneType|not supported|object is not|has no attribute|full_key|[Hh]ydra|OmegaConf|unexpected key"
)
SMALL = {"base": ["model.depth=10", "model.width=4"]}
COMMANDS = {
    **{"main": "base", "finetune": "finetune", "test": "test", "export": "export", "sweep": "sweep"},
    **{name: name for name in ("retrieval", "knn", "linear_probe", "motion_probe", "semi")},
}
# Settings of whole numbers, numbers or lists that may be null, or "auto", by the comments of their YAML files.
OR_NULL = {"from_round", "keep_last", "max_update_factor", "lr", "momentum", "weight_decay", "steps", "gamma"}
OR_NULL |= {"hidden_channels", "split", "labels_per_class", "train_list", "param_groups", "work_dir", "checkpoint"}
FREE = {"threshold", "rows", "measures", "overrides", "protocols", "split"}  # inf is FedAvg; names
TOOLS: dict[str, Callable[[list[str]], object]] = {
    **{module.__name__: module.main for module in (build_annotations, extract_frames, partition, prepare)},
    **{module.__name__: module.main for module in (finetune_preprocess, report)},
}
FLAGS = ("--raw_dir", "--ann_dir", "--out_dir", "--zip_dir", "--num_clients", "--method", "--seed", "--json_path")
FLAGS += ("--short_side", "--quality", "--num_workers", "--alpha", "--output_path", "--num_frames", "--width")


def fits(default: Any, value: Any, name: str) -> bool:
    """A coarse judge of its own, which knows the default value alone: False if no setting like it has this value."""
    if isinstance(value, list):
        numbers = all(isinstance(entry, int | float) for entry in default) if isinstance(default, list) else True
        return isinstance(default, list | None) and (not numbers or all(fits(1, entry, name) for entry in value))
    if isinstance(value, dict) or value is None:
        return (name in OR_NULL and value is None) or default is None or isinstance(default, dict)
    if isinstance(value, bool) or isinstance(default, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(value, float | int) and not isinstance(default, str):
        return default is None or (isinstance(default, int | float) and math.isfinite(value) and 0 <= value <= 1e9)
    return default is None or isinstance(default, str) or value == "auto"


def build_all(command: str, config: Config) -> None:
    """Build what the command builds before it opens a file."""
    if command == "main":
        settled = settle(config)
        build_task(settled)
        strategy_of(settled)
        build(config["eval"]["sample"])
    elif command == "finetune":
        check_finetuning(config)
        build_task(config)
    elif command == "export":
        checked_formats(config["formats"])
        build(config["model"])
    elif command == "sweep":
        read(config)
    else:
        build(config["test_sample"])
        if command != "test":
            build(config["protocol"])


def judged(error: Exception) -> str:
    """ "sentence" if an error is one of ours, in one line; or what is wrong with it."""
    text = str(error)
    good = bool(text.strip()) and text.isprintable() and len(text) < LONGEST and not FOREIGN.search(text)
    return "sentence" if good else f"no sentence: {text!r}"[:300]


def settings_of(command: str) -> dict[str, Any]:
    """Names and default values of all settings and sections."""
    config = compose(COMMANDS[command], SMALL.get(COMMANDS[command], []))
    sections = {name: value for name, value in config.items() if isinstance(value, dict)}
    return {name: value for name, value in {**sections, **dict(flat(config))}.items() if "@" not in name}


def outcome(command: str, word: str, name: str, default: Any) -> str:
    """Try one word: "sentence", "accepted", "wrongly accepted", or the name of an error without a sentence."""
    config_name = COMMANDS[command]
    words = [*SMALL.get(config_name, []), word]
    try:
        if command == "main":
            for_hydra(words)
        else:
            check_settings(command, [config_name, *words] if command in ("finetune", "test") else words)
        config = compose(config_name, parse_overrides(words))
        build_all(command, config)
    except ValueError as error:
        return judged(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    free = FREE & {*name.split(".")} or name.split(".")[0] in FREE
    return "accepted" if free or fits(default, value, name.rpartition(".")[2]) else "wrongly accepted"


def tried(command: str, *, times: int, seed: int = SEED) -> Iterator[tuple[str, str]]:
    """Words and their outcomes."""
    rng = np.random.default_rng([seed, *command.encode()])
    if command in TOOLS:
        for _ in range(times):
            yield (word := f"{FLAGS[rng.integers(len(FLAGS))]} {JUNK[rng.integers(len(JUNK))]}"), of_tool(command, word)
        return
    known = settings_of(command)
    names = sorted(known)
    for _ in range(times):
        name, junk = names[rng.integers(len(names))], JUNK[rng.integers(len(JUNK))]
        mistyped = name[:-1] if rng.random() < 0.05 else name
        yield f"{mistyped}={junk}", outcome(command, f"{mistyped}={junk}", name, known[name])


def of_tool(tool: str, word: str) -> str:
    """As `outcome`, for a command with flags, in an empty folder."""
    flag, _, value = word.partition(" ")
    given = {
        "--raw_dir": "raw",
        "--zip_dir": "zips",
        "--json_path": "lists",
        "--output_path": "out",
        "--out_dir": "out",
    }
    words = [part for pair in ({**given, flag: value}).items() for part in pair if pair[0] in _flags_of(tool)]
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, chdir(folder), redirect_stdout(said), redirect_stderr(said):
        try:
            code = TOOLS[tool](words)
        except SystemExit as end:
            code = end.code
        except (ValueError, OSError) as error:
            return judged(error)
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:300]
    return "sentence" if code else "accepted"


@cache
def _flags_of(tool: str) -> str:
    said = io.StringIO()
    with redirect_stdout(said):
        try:
            TOOLS[tool](["--help"])
        except SystemExit:
            return said.getvalue()
    return said.getvalue()


def main() -> int:
    """The command: 1 if a word ended without a sentence, or was taken wrongly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=TIMES, help="words for each command")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("commands", nargs="*", help="some of them; all by default")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    rows, bad = [], 0
    for command in asked.commands or [*COMMANDS, *TOOLS]:
        found = list(tried(command, times=asked.times, seed=asked.seed))
        count = Counter(
            result if result in ("sentence", "accepted", "wrongly accepted") else "x" for _, result in found
        )
        seen = f"{count['sentence']} sentences, {count['accepted']} taken, {count['x']} tracebacks"
        name = command.removeprefix("fedvssl.")
        provoked = f"settings or flags with values out of {len(JUNK)}, seed {asked.seed}"
        seen = f"{seen}, {count['wrongly accepted']} wrongly accepted"
        rows.append(Row(f"junk on the command line of {name}", provoked, "one sentence", seen, len(found)))
        print(f"{name}: {seen}", flush=True)
        for word, result in found:
            if result not in ("sentence", "accepted"):
                print(f"    {word[:120]}: {result}")
                bad += 1
    if not asked.commands:
        store("settings", rows)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())

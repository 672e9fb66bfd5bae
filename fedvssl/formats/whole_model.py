"""A whole model as the folder of another program: its frozen base with what a federation has trained.

The model writes its own files (`save(folder)`), such as those that transformers' `from_pretrained` loads.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedvssl.files.arrays import load_arrays
from fedvssl.files.atomic import atomic_folder
from fedvssl.files.environment import free_bytes
from fedvssl.files.lock import owned_output
from fedvssl.files.settings import check_base, sha256
from fedvssl.files.tensors import load_arrays_into, to_arrays

CARD = """\
# {name}, from {checkpoint}

The whole model: {trained} of its {entries} arrays were trained in a federation ({parts}), the others are those of its
base ({base}).

    from transformers import {name}
    model = {name}.from_pretrained("<this folder>")

{files}
The software that wrote this is under Apache-2.0. The weights carry no licence of their own here: the terms of the base
and of the pictures decide.
"""


def base_seed(trained: Mapping[str, Any] | None, model: Mapping[str, Any], checkpoint: Path) -> int:
    """Seed of the base's random weights, of the run in whose folder a round file lies; 0 where a file has the base.

    Args:
        trained: configuration of the run; None if there is none.
        model: section of that name.
        checkpoint: the round file.

    Raises:
        ValueError: if the base is random and its seed not known, or model or base are others than the run's.
    """
    if "weights" in model:
        check_base(checkpoint.parent, (trained or {}).get("model", {}), model)
        return 0
    if not trained or trained.get("model") != dict(model):
        raise ValueError(
            f"{checkpoint} holds no base of its model, which was random: export it in the folder of its run, whose "
            "config.yaml tells model and seed."
        )
    return trained["seed"]


def export_whole(model: Any, checkpoint: Path, out_dir: Path, *, base: str) -> None:
    """Put the arrays of a round file into a model and write its folder.

    Args:
        model: with its base, and `save(folder)`.
        checkpoint: the round file.
        out_dir: new folder.
        base: words on the base.

    Raises:
        ValueError: if the file is of another model, or the folder or the disk cannot take the files.
    """
    started, own, arrays = time.perf_counter(), to_arrays(model), load_arrays(checkpoint)
    if unknown := [name for name, array in arrays.items() if name not in own or own[name].shape != array.shape]:
        raise ValueError(f"{checkpoint} is of another model, which has {unknown[0]}: choose model=<its name>.")
    needed = sum(array.nbytes for array in own.values())
    if (free := free_bytes(out_dir)) < needed:
        raise ValueError(f"The export needs {needed:,} bytes and the disk of {out_dir} has {free:,} left: make room.")
    load_arrays_into(model, {**own, **arrays})
    with owned_output(out_dir.resolve()), atomic_folder(out_dir) as folder:
        model.save(folder)
        files = sorted(folder.iterdir())
        facts = {"name": model.name, "checkpoint": checkpoint.name, "trained": len(arrays), "entries": len(own)}
        parts = ", ".join(sorted({name.partition(".")[0] for name in arrays}))
        lines = "".join(f"- {file.name}: {file.stat().st_size:,} bytes, SHA-256 {sha256(file)}\n" for file in files)
        (folder / "README.md").write_text(CARD.format(**facts, parts=parts, base=base, files=lines), encoding="utf-8")
    print(f"{out_dir}: {len(files)} files and README.md, {needed:,} bytes, {time.perf_counter() - started:.0f} s")

"""The Python API, as `fedvssl.<name>`: train, load a backbone, compute features, read what a run has recorded.

    import fedvssl

    run = fedvssl.train(data_dir="data", rounds=20)
    backbone = run.backbone()
    found = fedvssl.features("data/ucf101/zips", backbone)

Shapes: V videos or pictures, D features (512 for R3D-18). PyTorch is imported by the functions that compute.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedvssl.files.parent import STARTER
from fedvssl.files.run_log import METRICS_FILE, Record, read_config, read_records
from fedvssl.files.runs import (
    ANY,
    BACKBONE,
    CONFIG,
    FINE_TUNED,
    LAST,
    OUTPUTS,
    choose,
    config_of_run,
    fine_tuned,
    newest_round,
)
from fedvssl.files.settings import flat, foreign_class

if TYPE_CHECKING:
    from torch import nn

CHILD_SECONDS = 30.0  # that a training which is interrupted gets to end


class Features(NamedTuple):
    """Features of videos or pictures.

    Args:
        array: float32 [V,D], the global average of the backbone's last stage, averaged over the clips of a video.
        names: of the files, in the same order; below a folder that was given, as paths from there.
    """

    array: np.ndarray
    names: list[str]


class Run:
    """A run of pre-training or fine-tuning that is on the disk.

    Args:
        name: `last`, the newest below outputs/ or in this folder; its folder, or its name, as in `run=<name>`.

    Raises:
        ValueError: if there is none, or several could be meant; names the candidates.
    """

    def __init__(self, name: str | Path = LAST) -> None:
        self.folder = choose(str(name), ANY)

    def __repr__(self) -> str:
        return f"fedvssl.Run({str(self.folder)!r})"

    def settings(self) -> dict[str, Any]:
        """Its whole configuration, nested; ValueError if config.yaml is damaged."""
        return read_config(self.folder / CONFIG)

    def metrics(self, *, clients: bool = False) -> list[Record]:
        """Records of the rounds ("server_round") or epochs ("epoch") with their numbers, in order.

        Args:
            clients: those of single clients instead, each with its "partition_id".
        """
        return [record for record in read_records(self.folder / METRICS_FILE) if ("partition_id" in record) == clients]

    def checkpoint(self) -> Path:
        """File of the last round, or of the last epoch of a fine-tuning.

        Raises:
            ValueError: if none is saved yet.
        """
        if not (path := newest_round(self.folder) or fine_tuned(self.folder)):
            raise ValueError(f"{self.folder} has no round and no {FINE_TUNED} yet.")
        return path

    def backbone(self) -> "nn.Module":
        """Its backbone, see `load_backbone`."""
        return load_backbone(self.checkpoint())


def train(*overrides: str, run_dir: str | Path | None = None, **settings: Any) -> Run:
    """Train a federation in a process of its own, as `python -m fedvssl.main`; its lines are printed as they come.

    Args:
        overrides: words as on the command line, such as "strategy.mix_coeff=1".
        run_dir: folder of the run; that of an earlier one continues it. None: outputs/<date>/<time>/<exp_name>.
        settings: keys of conf/base.yaml and groups; a dictionary has those inside: strategy={"mix_coeff": 1}.

    Raises:
        ValueError: for a mistake in settings or data, with the sentence of the command.
        RuntimeError: if the run could not go on. What was saved stays: the same call with its `run_dir` continues it.
    """
    if run_dir is None:
        run_dir = Path(OUTPUTS, time.strftime("%Y-%m-%d"), time.strftime("%H-%M-%S"))
        run_dir /= str(settings.get("exp_name", "fedvssl_results"))
    words = [*overrides, *(f"--{name}={_word(value)}" for name, value in flat(settings))]
    command = [sys.executable, "-u", "-m", "fedvssl.main", *words, f"--hydra.run.dir={run_dir}"]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, STARTER: str(os.getpid())}
    last, pipes = "", {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as child:
        try:
            for line in child.stdout or ():
                print(line, end="")  # also in a notebook, which does not show what a process writes
                last = line.strip() or last
            code = child.wait()
        except BaseException:
            child.terminate()
            child.wait(CHILD_SECONDS)
            raise
    if code:
        raise (ValueError if code == 2 else RuntimeError)(last.removeprefix("error: "))
    return Run(run_dir)


def load_backbone(source: str | Path = LAST, *overrides: str) -> "nn.Module":
    """Load a backbone in eval mode on the CPU; `.settings` tells its checkpoint, its model and its clips.

    Args:
        source: a file, such as a round, ours or published, or last.pth; a run's folder or name; `last`.
        overrides: of conf/retrieval.yaml, such as "model=resnet18", "input=pictures", in the place of the run's own
            settings. A file without its run needs them if it is not of R3D-18 with 16 frames of 112 pixels.

    Returns:
        A module that maps float32 [B,3,T,H,W], normalised, or [B,3,H,W] of pictures, to [B,D,t,h,w] or [B,D,h,w].

    Raises:
        ValueError: if there is no such file or run, it is of another model, or its config.yaml names classes that are
            not of this package: a folder from elsewhere must not choose what runs here.
    """
    from fedvssl.building import build
    from fedvssl.config import compose
    from fedvssl.files.backbone import load_backbone as load_weights

    path = Path(source).expanduser()
    path = path if path.is_file() else choose(str(source), BACKBONE)
    own = {} if overrides else config_of_run(path)
    if "model" not in own:
        own = compose("retrieval", list(overrides))
    elif foreign := foreign_class([own["model"], _sample_of(own)]):
        raise ValueError(f"{path.parent / CONFIG} names {foreign}: give the settings of the model as overrides.")
    backbone, sample = build(own["model"]).eval(), _sample_of(own)
    load_weights(backbone, path)
    object.__setattr__(backbone, "settings", {"checkpoint": str(path), "model": own["model"], "sample": sample})
    return backbone


def _sample_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Section of the Sample with which a run evaluates."""
    return settings.get("test_sample") or settings["eval"]["sample"]


def features(
    media: str | Path | Sequence[str | Path], backbone: "nn.Module", *, batch_size: int = 4, device: str = "auto"
) -> Features:
    """Compute the features of videos or pictures, as the evaluations do.

    Args:
        media: files, or folders with files at any depth: videos, zips of frames, or pictures, as the backbone takes.
        backbone: of `load_backbone`, whose `.settings` say how a file is read. It is moved to the device.
        batch_size: files at a time.
        device: "cpu", "cuda", or "auto".

    Raises:
        ValueError: if there is no such file, or one cannot be read.
    """
    import torch

    from fedvssl.building import build
    from fedvssl.evaluation.features import compute
    from fedvssl.training.loop import build_fabric

    files = dict(_files([media] if isinstance(media, str | Path) else media))
    if not files:
        raise ValueError(f"No video or picture in {media}.")
    settings: Any = getattr(backbone, "settings", None)
    if settings is None:
        raise ValueError("The backbone has no `.settings`: load it with fedvssl.load_backbone.")
    fabric = build_fabric(device=device, precision="32-true")
    dataset: Any = _Opened([*files.values()], build(settings["sample"]))
    parts = compute(fabric, backbone.to(fabric.device), dataset, batch_size=batch_size, num_workers=0)
    clips = torch.cat([clips for clips, _ in parts])  # [V,N,D]
    return Features(clips.mean(dim=1).numpy(), [*files])


class _Opened:
    """Files as a dataset: what a Sample reads of each."""

    def __init__(self, paths: Sequence[Path], sample: Any) -> None:
        self.paths, self.sample = paths, sample

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.sample(self.paths[index], np.random.default_rng([index]))


def _files(media: Sequence[str | Path]) -> Iterator[tuple[str, Path]]:
    """Names and paths of all files that are given, or lie below a folder that is given."""
    from fedvssl.data.media import PICTURE_SUFFIXES, VIDEO_SUFFIXES

    for given in media:
        path = Path(given).expanduser()
        if not path.exists():
            raise ValueError(f"There is no {path}.")
        for file in [path] if path.is_file() else sorted(path.rglob("[!.]*")):
            if file == path or file.suffix.lower() in {".zip", *VIDEO_SUFFIXES, *PICTURE_SUFFIXES}:
                yield str(given if file == path else file.relative_to(path)), file


def _word(value: Any) -> str:
    """A Python value as Hydra writes it."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_word, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)

"""Commands that a report names for what is missing, with the data and the model of its run."""

import shlex
from typing import Any

from fedvssl.config import conf_dir
from fedvssl.files.run_log import read_config
from fedvssl.reporting.folders import Folder

SIZES = {"crop_size": "crop_size", "test_sample.size": "size"}


def evaluation_command(run: Folder, protocol: str) -> str:
    """Command that evaluates the last round of this run."""
    rounds = [record["server_round"] for record in run.rounds] or ["<N>"]
    words = [f"checkpoint={run.path / f'round-{rounds[-1]}-weights.npz'}", f"data_dir={run.setting('data_dir')}"]
    words += picture_words(run) or video_words(run)
    return f"python -m fedvssl.{protocol} {shlex.join(words)}"


def finetuning_commands(run: Folder) -> str:
    """Command that fine-tunes, and the report's own with its results."""
    own = f"{_picture_text(run)}data_dir=<data> pretrained=<model_pretrained.pth> work_dir=<folder>"
    return f"python -m fedvssl.finetune finetune {own}\npython -m fedvssl.report <this run> --include <folder>"


def test_command(run: Folder) -> str:
    """Command that tests a fine-tuned recognizer."""
    return f"python -m fedvssl.test test {_picture_text(run)}data_dir=<data> work_dir=<folder>"


def video_words(run: Folder) -> list[str]:
    """Words by which an evaluation gets the videos and the model of a run."""
    words = [f"data.name={run.setting('data.name')}", f"data.num_classes={run.setting('data.num_classes')}"]
    words += [f"{key}={run.setting(key)}" for key in ("data.split", "model.depth", "model.width") if run.setting(key)]
    sample = run.setting("eval.sample", {})
    return words + [f"{key}={sample[name]}" for key, name in SIZES.items() if name in sample]


def picture_words(run: Folder) -> list[str]:
    """Words by which every command gets the pictures and the model of a run; none for a run on videos."""
    if run.medium == "video":
        return []
    data = {name: run.setting(f"data.{name}") for name in ("name", "media_dir", "annotation_dir")}
    names = {path.stem for path in (conf_dir() / "data").glob("*.yaml")}
    known = data["name"] in names  # its folders follow from data_dir
    return [
        *([f"data={data['name']}"] if known else [f"data.{name}={value}" for name, value in data.items()]),
        *(f"data.{name}={run.setting(f'data.{name}')}" for name in ("num_classes", "split")),
        *model_words(run.setting("model", {})),
        "input=pictures",
        f"crop_size={run.setting('eval.sample.crop_size')}",
    ]


def model_words(model: dict[str, Any]) -> list[str]:
    """Words that choose the file of conf/model that is most alike, and set what differs; all for one of one's own."""
    files = {path.stem: read_config(path) for path in sorted((conf_dir() / "model").glob("*.yaml"))}
    alike = {name: own for name, own in files.items() if own["_target_"] == model.get("_target_")}
    name = max(alike, key=lambda name: len(alike[name].items() & model.items()), default=None)
    chosen = [f"model={name}"] if name else []
    own = alike[name] if name else {}
    return [*chosen, *(f"model.{key}={value}" for key, value in model.items() if own.get(key) != value)]


def _picture_text(run: Folder) -> str:
    return "".join(f"{word} " for word in map(shlex.quote, picture_words(run)))

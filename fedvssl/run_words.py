"""Words by which a command gets the data, the model and the size of the pictures of a run, from its config.yaml.

A word is `key=value` for Hydra, as in `model.width=16`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedvssl.files.run_log import read_config
from fedvssl.files.settings import flat
from fedvssl.places import conf_dir

FOLDERS = {"media_dir": ("zips", "pictures"), "annotation_dir": ("annotations",)}  # usual names below <data_dir>/<name>
PICTURES = "cifar10"  # of conf/data: one whose samples lie in `pictures`
PUBLISHED_CROP = 112  # pixels, of conf/finetuning/clips.yaml


def words_of(run: Mapping[str, Any], command: str) -> list[str]:
    """Words about the data, the model and the input of a run, for one of the commands that look at its backbone.

    Args:
        run: contents of the config.yaml of fedvssl.main or fedvssl.finetune; there are no words for any other.
        command: as in fedvssl.<command>.
    """
    if not isinstance(run.get("data"), Mapping) or not isinstance(run.get("model"), Mapping):
        return []
    data = [] if command == "export" else _data_words(run)
    return [*data, *model_words(run["model"]), *_input_words(run, command)]


def _input_words(run: Mapping[str, Any], command: str) -> list[str]:
    shown = _shown(run)
    if command == "export":
        shown = {**shown, **(run.get("task") or {}).get("sample", {})}  # for what it was trained on
    sizes = {name: shown[name] for name in ("clip_len", "frame_stride", "crop_size") if name in shown}
    if not is_video(run):
        return ["input=pictures", *(f"{name}={value}" for name, value in sizes.items())]
    if "num_clips" in run.get("test_sample", {}) and command == "test":
        sizes["test_sample.num_clips"] = shown["num_clips"]
    if "size" in shown and command != "export":  # (long, short) side
        sizes["test_sample.size"] = shown["size"]
        if command == "finetune" and shown.get("crop_size") != PUBLISHED_CROP:  # its sizes are for that
            sizes["train_sample.sizes"] = [shown["size"]]
    return [f"{name}={value}" for name, value in sizes.items()]


def is_video(run: Mapping[str, Any]) -> bool:
    """False for a run on pictures, whose sample of evaluation has no frames."""
    shown = _shown(run)
    return not shown or "clip_len" in shown


def model_words(model: Mapping[str, Any]) -> list[str]:
    """Words that choose the file of conf/model that is most alike, and set what differs; all for one of one's own."""
    model = dict(flat(model))
    files = {path.stem: dict(flat(read_config(path))) for path in sorted((conf_dir() / "model").glob("*.yaml"))}
    alike = {name: own for name, own in files.items() if own["_target_"] == model.get("_target_")}
    name = max(alike, key=lambda name: len(alike[name].items() & model.items()), default=None)
    chosen = [f"model={name}"] if name and name != next(iter(files)) else []  # the first one is every command's own
    own = alike[name] if name else {}
    return [*chosen, *(f"model.{key}={value}" for key, value in model.items() if own.get(key) != value)]


def unsaid(words: Iterable[str], given: Sequence[str]) -> list[str]:
    """The words whose settings are not among the given ones. Who names an experiment, a data set or a model gets it."""
    keys = {word.lstrip("+~-").partition("=")[0] for word in given}
    if "experiment" in keys:
        return []
    sections = keys & {"data", "model"} | ({"data"} if "data.name" in keys else set())
    if "data_dir" in keys:  # the same data at another place
        keys |= {f"data.{name}" for name in FOLDERS}
    found = ((word.partition("=")[0], word) for word in words)
    return [word for key, word in found if key not in keys and key.partition(".")[0] not in sections]


def _data_words(run: Mapping[str, Any]) -> list[str]:
    data = run["data"]
    below = Path(str(run.get("data_dir"))) / str(data.get("name"))
    known = {path.stem for path in (conf_dir() / "data").glob("*.yaml")} - {"ucf101"}  # every command's own
    words = [f"data_dir={run['data_dir']}"] if run.get("data_dir") else []
    name = str(data.get("name"))
    shown = f"'{name}'" if name[:1].isdigit() else name  # Hydra reads 2024_05 as a number
    if name in known:
        words.append(f"data={name}")
    else:
        in_pictures = str(data.get("media_dir")) == str(below / "pictures")
        words += [f"data={PICTURES}"] * in_pictures + [f"data.name={shown}"]
    usual = {name: {str(below / folder) for folder in folders} for name, folders in FOLDERS.items()}
    words += [f"data.{name}={data[name]}" for name in FOLDERS if name in data and str(data[name]) not in usual[name]]
    return [*words, *(f"data.{name}={data[name]}" for name in ("num_classes", "split") if name in data)]


def _shown(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sample with which a run is evaluated; empty if it has none that is known."""
    server = run.get("eval") or {}
    return server.get("sample") or run.get("test_sample") or {}

"""Entries of a name into the commands of fedvssl: clients' lists, split lists, settings, arrays, messages, results."""

import json
from collections.abc import Callable
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from data_tools import partition
from fedvssl import conversion, evaluate, export, finetune, report, sweep, test
from fedvssl.client.client import ClientError
from fedvssl.config import compose, to_dict
from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.data.media import find_media
from fedvssl.files.arrays import Arrays, save_arrays
from fedvssl.preflight import try_out
from fedvssl.server_evaluation import build_evaluations
from fedvssl.wire.record import pack, unpack
from fedvssl.wire.replies import UNKNOWN, read_update
from fedvssl.wire.wire import TRAIN, Reply
from tests.action_set import TINY, TINY_TEST
from tests.federation import TINY as TINY_PRETRAINING
from tests.federation import client_of, initial_arrays, order_of, sent_arrays
from tests.reliability.name_entries import Entry, stay_inside, write_zip
from tests.run_folders import write_evaluations
from tests.videos import moving_square, write_frames

PLACE = "/place/of/this/trial"  # in configurations that are composed once
EVALUATIONS = ("retrieval", "knn", "linear_probe", "motion_probe")
CONFIGS: dict[str, tuple[str, ...]] = {
    "base": (*TINY_PRETRAINING, "pool_size=1", "strategy.min_fit_clients=1", "eval.every=1", "eval.num_classes=1"),
    "finetune": (*TINY, "from_scratch=true"),
    "test": tuple(TINY_TEST),
    **dict.fromkeys(EVALUATIONS, (*TINY_TEST, "checkpoint=random")),
    "sweep": (),
}
VIDEO = moving_square(num_frames=20, height=36, width=48)


def config_for(own: Path, command: str) -> Any:
    """Configuration of a command whose data lie in the folder of this trial."""
    return json.loads(_composed(command).replace(PLACE, str(own)))


@cache
def _composed(command: str) -> str:
    return json.dumps(compose(command, [*CONFIGS[command], f"data_dir={PLACE}"]))


# Lists


def write_lists(own: Path, name: str) -> Path:
    """Write one good video, and lists that name it and another one; return the folder of the zips."""
    data = own / "ucf101"
    write_frames(data / "zips/walk/v.zip", VIDEO)
    entries = json.dumps([{"name": "walk/v", "label": 1}, {"name": name, "label": 1}])
    for path in ("train_split_1.json", "test_split_1.json", "client_distribution/client_dist1.json"):
        (data / "annotations" / path).parent.mkdir(parents=True, exist_ok=True)
        (data / "annotations" / path).write_text(entries)
    return data / "zips"


def listed(own: Path, name: str, *, command: str, run: Callable[[Any], object]) -> None:
    """A command that reads the lists and would read the video."""
    zips = write_lists(own, name)
    run(config_for(own, command))
    stay_inside(zips, [zips / f"{name}.zip"])


def found(own: Path, name: str) -> None:
    zips = write_lists(own, name)
    stay_inside(zips, [find_media(zips, name)])


def trained(own: Path, name: str) -> None:
    """A client with such a list."""
    zips, config = write_lists(own, name), config_for(own, "base")
    train_client(own, config, sent_arrays(config))
    stay_inside(zips, [zips / f"{name}.zip"])


def train_client(own: Path, config: Any, arrays: Arrays) -> None:
    """Have client 0 train; an error is raised as it was before the client told of it."""
    try:
        client_of(config, own, 0).answer(TRAIN, arrays, order_of(config))
    except ClientError as error:
        raise error.__cause__ or error from None


# Settings


def setting(own: Path, name: str, *, key: str) -> None:
    config = OmegaConf.create()
    OmegaConf.update(config, key, name)
    to_dict(config, resolve=False)
    stay_inside(own, [own / name])


def swept(own: Path, name: str, *, key: str) -> None:
    config = config_for(own, "sweep")
    config[key][name] = {"rows": None, "columns": {}} if key == "measures" else {}
    sweep.read(config)
    stay_inside(own, [own / f"{name}-seed7-split1.json", own / f"{name}.json"])


def protocol(own: Path, name: str) -> None:
    """A protocol that is called so, by the name of its YAML."""
    write_lists(own, "walk/v")
    config = config_for(own, "retrieval")
    evaluate.evaluate(name, {**config, "work_dir": str(own), "feature_dir": str(own / "features")})
    stay_inside(own, [own / f"{name}.json"])


# Arrays and messages


def array_file(own: Path, name: str) -> None:
    """An .npz whose member has this name."""
    array = BytesIO()
    np.save(array, np.zeros(3))
    path = write_zip(own / "round-1-weights.npz", f"backbone.{name}.npy", array.getvalue())
    conversion.convert(path, own / "out.pth")


def array_to_client(own: Path, name: str) -> None:
    write_lists(own, "walk/v")
    train_client(own, config_for(own, "base"), unpack(pack({name: np.zeros(3, np.float32)})))


def array_to_server(own: Path, name: str) -> None:
    reply = Reply(0, unpack(pack({name: np.zeros(3, np.float32)})), {"loss": 1.0, "num-examples": 1})
    update = read_update(reply, expected={"w": np.zeros(3, np.float32)}, num_examples=1, report=UNKNOWN)
    save_arrays(own / "round.npz", update.arrays)


# Results of others


def exported(own: Path, name: str) -> None:
    """A checkpoint beside evaluations whose data set and protocol have this name."""
    config = config_for(own, "base")
    save_arrays(own / "r.npz", {k: v for k, v in initial_arrays(config).items() if k.startswith("backbone.")})
    write_results(own, name)
    keys = {"checkpoint": str(own / "r.npz"), "model": config["model"], "clip_len": 8, "crop_size": 32}
    export.export({**keys, "formats": ["pth"], "frame_stride": 2, "out_dir": None})


def reported(own: Path, name: str) -> None:
    """A work_dir with such results, beside a run whose clients' lists are elsewhere."""
    (own / "config.yaml").write_text(json.dumps({**config_for(own, "base"), "partition_dir": str(own)}))
    write_results(own, name)
    if report.main([str(own)]):
        raise ValueError("the report was refused")


def write_results(own: Path, name: str) -> None:
    write_evaluations(own, "r")
    for path in own.glob("evaluation/*/*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "protocol": name, "dataset": name}))


COMMANDS: dict[str, Entry] = {
    "main, a client's list": partial(listed, command="base", run=try_out),
    "main, the server's lists": partial(listed, command="base", run=build_evaluations),
    "a client": trained,
    "finetune": partial(listed, command="finetune", run=finetune.finetune),
    "test": partial(listed, command="test", run=test.run_test),
    **{kind: partial(listed, command=kind, run=partial(evaluate.evaluate, kind)) for kind in EVALUATIONS},
    "find_video": found,
    **{f"setting {key}": partial(setting, key=key) for key in ("exp_name", "data.name", "data.split")},
    "sweep, row": partial(swept, key="rows"),
    "sweep, measure": partial(swept, key="measures"),
    "protocol": protocol,
    "array in a file": array_file,
    "array to a client": array_to_client,
    "array to the server": array_to_server,
    "export": exported,
    "report": reported,
}


def whole_way(own: Path, names: tuple[str, ...]) -> None:
    """Videos of odd names in classes of odd names: partition, checks, fine-tuning, test, retrieval."""
    data, annotations = own / "ucf101", []
    for number, name in enumerate(names):
        label = number % 3
        annotations.append(Annotation(f"{names[label]}/{name}", label))
        write_frames(data / f"zips/{annotations[-1].name}.zip", VIDEO)
    for part in ("train", "test"):
        write_annotations(data / f"annotations/{part}_split_1.json", annotations)
    lists = data / "annotations/client_distribution"
    partition.main([f"--json_path={data / 'annotations'}", f"--output_path={lists}", "--num_clients=1"])
    try_out(config_for(own, "base"))
    places = {"work_dir": str(own / "work"), "feature_dir": str(own / "features")}
    same_lists = {"num_classes": 3, "allow_test_videos": True}
    for command, run in (("finetune", finetune.finetune), ("test", test.run_test)):
        config = {**config_for(own, command), **places, "checkpoint": str(own / "work/last.pth")}
        run({**config, "data": {**config["data"], **same_lists}})
    config = config_for(own, "retrieval")
    evaluate.evaluate("retrieval", {**config, **places, "data": {**config["data"], **same_lists}})

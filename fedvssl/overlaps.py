"""Test of a task that predicts objects, such as Segment-Anything: overlaps of masks by class and owner, and pictures.

It is what `fedvssl.test` does with a task that has `predict(batch) -> rows`, each row with "class", "iou", "dice",
"box_iou" and "box_dice" as fractions, "box" [4] and "mask" bool [H,W]. A batch holds one picture.
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fedvssl.data.annotations import Annotation
from fedvssl.data.dataset import SampleDataset, test_loader
from fedvssl.data.image import read_picture
from fedvssl.data.masks import read_objects
from fedvssl.data.media import find_media
from fedvssl.data.seen import read_seen, seen_facts, seen_words
from fedvssl.data.split import Split
from fedvssl.data.splits import labelled_videos, lists_digest, spread
from fedvssl.evaluation.features import contents_digest
from fedvssl.evaluation.intervals import in_percent, mean_interval
from fedvssl.files.arrays import load_arrays
from fedvssl.files.atomic import atomic_path, write_json
from fedvssl.files.lock import owned
from fedvssl.files.progress import Progress
from fedvssl.files.results import CHECKPOINT, change_in, from_here, refuse_other
from fedvssl.files.run_log import read_config
from fedvssl.files.settings import check_base
from fedvssl.files.tensors import load_arrays_into, to_arrays
from fedvssl.training.loop import build_fabric, seed_torch

RESULT, TABLE, OVERLAYS = "test.json", "objects.csv", "overlays"
MEASURES = ("iou", "dice", "box_iou", "box_dice")
TILE = re.compile(r"_y\d{5}_x\d{5}(\.\w+)?$")  # ends the name of a piece of a picture, see data_tools.masks
TRUE, GUESSED, BOX = (0, 200, 0), (255, 0, 255), (255, 220, 0)  # colours of the outlines
LEAST_SIDE = 256  # of an overlay; smaller pictures are enlarged by a whole number

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ObjectTest:
    """A test.

    Args:
        new_task: builds the task with its initial weights.
        model: section of that name; it has "weights" if the initial ones are pre-trained.
        seed: of random weights.
        sample: gives all objects of a picture.
        data: the split.
        checkpoint: a round file, whose arrays take the place of the task's; None for the initial weights.
        work_dir: for the results.
        overlays: number of pictures to draw.
        settings: decide the result, and go into it.
        device, precision, num_workers: of the computation.
    """

    new_task: Callable[[], Any]
    model: Mapping[str, Any]
    seed: int
    sample: Any
    data: Split
    checkpoint: Path | None
    work_dir: Path
    overlays: int
    settings: Mapping[str, Any]
    device: str
    precision: str
    num_workers: Any

    def run(self) -> None:
        """Test, print the table, write test.json, objects.csv and the overlays.

        Raises:
            ValueError: for a missing or unfitting checkpoint, list or picture.
        """
        pictures = labelled_videos(self.data, "test")
        task, seen = self.new_task_with_weights(pictures)
        dataset = SampleDataset(self.data.media_dir, pictures, self.sample)
        facts = {**self.conditions(dataset), **seen}
        path = self.work_dir / RESULT
        refuse_other(path, change_in(path, deciding(facts), deciding))
        with owned(self.work_dir, writes=(RESULT, TABLE)):
            rows, before = self.predict(task, dataset, label="picture"), None
            if self.checkpoint is not None and "weights" in self.model:
                seed_torch((self.seed,))
                before = self.predict(self.new_task(), dataset, label="picture, zero-shot")
            result = {**summarise(rows, pictures), "zero_shot": before and summary_of(before, pictures), **facts}
            print(table(result))
            write_json(path, result)
            write_rows(self.work_dir / TABLE, rows, pictures)

    def new_task_with_weights(self, pictures: Sequence[Annotation]) -> tuple[Any, dict[str, Any]]:
        """The task with the arrays of the checkpoint, and the entries of test.json about what it has seen.

        Raises:
            ValueError: if the checkpoint is of another model or seed, or has seen the test pictures.
        """
        seed_torch((self.seed,))
        task = self.new_task()
        if self.checkpoint is None:
            return task, {}
        if not self.checkpoint.is_file():
            raise ValueError(f"No checkpoint {self.checkpoint}: name a round file with checkpoint=<file>.")
        check_origin(self.checkpoint, model=self.model, seed=self.seed)
        arrays, own = load_arrays(self.checkpoint), to_arrays(task)
        if unknown := [name for name, array in arrays.items() if name not in own or own[name].shape != array.shape]:
            raise ValueError(f"{self.checkpoint} is of another model, which has {unknown[0]}: choose model=<its name>.")
        load_arrays_into(task, {**own, **arrays})
        return task, seen_facts(self.data, pictures, read_seen(self.checkpoint), checkpoint=self.checkpoint)

    def conditions(self, dataset: SampleDataset) -> dict[str, Any]:
        """Entries of test.json about the pictures and the settings."""
        named = {"checkpoint": None, CHECKPOINT: "none"}
        if self.checkpoint is not None:
            named = {"checkpoint": str(self.checkpoint), CHECKPOINT: from_here(self.checkpoint, self.work_dir)}
        return {
            **{"num_pictures": len(dataset), "dataset": self.data.name, "split": self.data.split},
            **{"part": self.data.test_part, "lists": lists_digest({"test": dataset.annotations})},
            **{"media": contents_digest([dataset]), "pretrained": "weights" in self.model, **named},
            "settings": dict(self.settings),
        }

    def predict(self, task: Any, dataset: SampleDataset, *, label: str) -> Rows:
        """Rows of all pictures, each with its "index" in the list and without its mask; draws the overlays."""
        fabric = build_fabric(device=self.device, precision=self.precision)
        task.to(fabric.device).eval()
        drawn = {*spread(range(len(dataset)), self.overlays)} if self.overlays else set()
        loader = test_loader(dataset, batch_size=1, num_workers=self.num_workers)
        rows: Rows = []
        with torch.no_grad(), fabric.autocast(), Progress(label, len(dataset)) as progress:
            for index, batch in enumerate(loader):
                found = task.predict(task.augment(fabric.to_device(batch)))
                if index in drawn and "zero-shot" not in label:
                    self.draw(index, dataset.annotations[index], found)
                rows += [{**{name: row[name] for name in ("class", "box", *MEASURES)}, "index": index} for row in found]
                progress.advance(1)
        return rows

    def draw(self, index: int, picture: Annotation, rows: Rows) -> None:
        """Draw box, truth and prediction of every object of a picture."""
        place = find_media(self.data.media_dir, picture.name)
        drawing = overlay(read_picture(place), read_objects(place).numbers, rows)
        with atomic_path(self.work_dir / OVERLAYS / f"{index:05}.png") as temporary:
            Image.fromarray(drawing).save(temporary, format="PNG")


def check_origin(checkpoint: Path, *, model: Mapping[str, Any], seed: int) -> None:
    """Compare model and seed with those of the run in whose folder a round file lies: its frozen base is not in it.

    Raises:
        ValueError: if they differ.
    """
    trained = read_config(checkpoint.parent / "config.yaml")
    own = {**(trained or {}).get("model", {}), "weights": model.get("weights")}
    if not trained or "weights" not in trained.get("model", {}):
        own.pop("weights") if "weights" not in model else None
    if trained and own != dict(model):
        raise ValueError(f"{checkpoint} was trained around another model, {trained['model']}: choose the same one.")
    if "weights" in model:
        check_base(checkpoint.parent, (trained or {}).get("model", {}), model)
    if trained and "weights" not in model and trained.get("seed") != seed:
        raise ValueError(f"{checkpoint} was trained around random weights of seed={trained.get('seed')}: set it.")


def deciding(result: Mapping[str, Any]) -> dict[str, Any]:
    """What another result must share to take the place of this one."""
    names = ("dataset", "split", "part", "lists", "media", CHECKPOINT)
    return {**result.get("settings", {}), **{name: result.get(name) for name in names}}


def source_of(name: str) -> str:
    """The picture that a piece was cut from, "a/1" of "a/1_y00064_x00000.png"; the name itself of a whole one."""
    return TILE.sub("", name)


def summarise(rows: Rows, pictures: Sequence[Annotation]) -> dict[str, Any]:
    """Entries of test.json: means over all objects, "per_class" and "per_owner", each as `summary_of`."""
    owners = [owner_of(pictures[row["index"]].name) for row in rows]
    kinds = {"per_class": [str(row["class"]) for row in rows], "per_owner": owners}
    parts = {
        kind: {
            name: summary_of([row for row, other in zip(rows, names, strict=True) if other == name], pictures)
            for name in sorted({*names})
        }
        for kind, names in kinds.items()
    }
    return {**summary_of(rows, pictures), **parts}


def owner_of(name: str) -> str:
    """First folder of a name, by which data_tools.partition --method by-owner makes clients; "-" without one."""
    return name.partition("/")[0] if "/" in name else "-"


def summary_of(rows: Rows, pictures: Sequence[Annotation]) -> dict[str, Any]:
    """Number of objects, means of the MEASURES, and their 95 % intervals over whole pictures."""
    groups = [source_of(pictures[row["index"]].name) for row in rows]
    values = {name: [row[name] for row in rows] for name in MEASURES}
    return {
        "num_objects": len(rows),
        **{name: float(np.mean(own)) for name, own in values.items()},
        "intervals": {name: mean_interval(own, groups) for name, own in values.items()},
    }


def table(result: Mapping[str, Any]) -> str:
    """Mean IoU and Dice in percent, each next to that of the filled box."""
    lines = [f"{'':24} {'objects':>8}  {'IoU':>20}  {'Dice':>20}  {'box IoU':>8}  {'box Dice':>8}"]
    named = {"all": result, **{f"class {name}": own for name, own in result["per_class"].items()}}
    if len(result["per_owner"]) > 1:
        named |= {f"owner {name}": own for name, own in result["per_owner"].items()}
    if result["zero_shot"]:
        named["zero-shot, all"] = result["zero_shot"]
    for name, own in named.items():
        cells = [in_percent(own[measure], own["intervals"][measure]) for measure in MEASURES[:2]]
        boxes = [f"{100 * own[m]:8.1f}" for m in MEASURES[2:]]
        lines.append(f"{name:24} {own['num_objects']:8}  {cells[0]:>20}  {cells[1]:>20}  {'  '.join(boxes)}")
    if not result["pretrained"]:
        lines.append("zero-shot: none, as this model has random weights")
    what = result["checkpoint"] or "initial weights"
    return "\n".join([*lines, f"{result['num_pictures']} {result['part']} pictures of {result['dataset']}; {what}"]) + (
        seen_words({**result, "medium": "picture"})
    )


def write_rows(path: Path, rows: Rows, pictures: Sequence[Annotation]) -> None:
    """Write a line for each object."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["picture", "class", *MEASURES, "x0", "y0", "x1", "y1"])
        for row in rows:
            measures = [f"{row[name]:.4f}" for name in MEASURES]
            writer.writerow([pictures[row["index"]].name, row["class"], *measures, *row["box"]])


def overlay(picture: np.ndarray, numbers: np.ndarray, rows: Rows) -> np.ndarray:
    """Picture, uint8 [H,W,3], enlarged if it is small, with outlines: boxes yellow, truth green, prediction magenta."""
    times = max(1, -(-LEAST_SIDE // max(numbers.shape)))
    drawing = picture.repeat(times, axis=0).repeat(times, axis=1)
    for number, row in enumerate(rows, start=1):
        x0, y0, x1, y1 = (times * value for value in row["box"])
        frame = np.zeros(drawing.shape[:2], bool)
        frame[y0 : y1 + times, x0 : x1 + times] = True
        for mask, colour in ((frame, BOX), (numbers == number, TRUE), (row["mask"], GUESSED)):
            large = mask if mask.shape == frame.shape else mask.repeat(times, axis=0).repeat(times, axis=1)
            drawing[outline(large)] = colour
    return drawing


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask, bool [H,W], that touch a pixel outside of it or the edge of the picture."""
    wide = np.pad(mask, 1)
    inner = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return mask & ~inner

"""Raw pictures -> `<out_dir>/pictures/<Class>/<name>` and `<out_dir>/annotations`, for `data_tools.prepare`.

Names in the annotation files have a suffix, such as "cat/0001.bmp": without one, every look-up would list the folder of
the class, which takes 10 ms where a class has 5,000 pictures.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from fedvssl.data.annotations import Annotation
from fedvssl.data.splits import spread
from fedvssl.data.video import PICTURE_SUFFIXES
from fedvssl.files.atomic import naming, write_json
from fedvssl.files.lock import owned
from fedvssl.files.progress import Progress

from .build_annotations import PICTURES, write_lists
from .cifar import find_cifar, to_pixels
from .extract_frames import FrameFormat, check_apart, check_same_format
from .list_words import some
from .picture_format import PictureError, convert, encode, resize
from .raw_pictures import RawPicture, RawPictures, find_pictures
from .walk import files_ending
from .workers import in_processes

REPORT_NAME = "prepare_report.json"
CHUNK = 200  # pictures that a worker process gets at a time

Outcome = tuple[str, str, str]  # name, suffix of the stored file or "", reason for which there is none or ""


@dataclass
class Report:
    """Outcome for every picture; `failed` maps a name to the reason."""

    frames: FrameFormat
    written: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def prepare_pictures(
    raw_dir: Path, out_dir: Path, *, frames: FrameFormat, num_workers: int, per_class: int | None = None
) -> None:
    """Store all pictures and list those that could be read; what is stored already is kept.

    Args:
        raw_dir: folder or archive of the raw pictures.
        out_dir: folder for the stored pictures and the lists.
        frames: form in which they are stored.
        num_workers: processes.
        per_class: most pictures of each class in each part, evenly spread over their names; None for all.

    Raises:
        ValueError: as `find_cifar` and `find_pictures`; if `per_class` is less than 1, the pictures would be stored
            within `raw_dir`, another process works in `out_dir`, its pictures have another format, the disk takes two
            names for one, or no picture can be read.
    """
    if per_class is not None and per_class < 1:
        raise ValueError(f"--per_class {per_class} must be at least 1.")
    if raw_dir.resolve() in (out_dir / "pictures").resolve().parents:
        raise ValueError(f"{out_dir} lies in {raw_dir}, so a later run would take its pictures for raw ones: move it.")
    raw = find_cifar(raw_dir, out_dir / "raw") or find_pictures(raw_dir)
    if per_class is not None:
        raw = _some_of_each_class(raw, per_class)
    stored = _store(raw, out_dir / "pictures", frames=frames, num_workers=num_workers)
    if not stored:
        raise ValueError(f"None of the {len(raw.pictures)} pictures in {raw_dir} can be read.")
    # One call for all: waiting for the disk after each of 60,000 small files would take a quarter of an hour.
    os.sync()
    labels = {name: label for label, name in enumerate(raw.classes)}
    splits: dict[str, list[Annotation]] = {}
    for picture in sorted(raw.pictures, key=lambda picture: picture.name):
        annotation = Annotation(stored.get(picture.name, picture.name), labels[picture.class_name])
        splits.setdefault(f"{picture.part}_split_1", []).append(annotation)
    write_lists(splits, set(stored.values()), out_dir / "annotations", words=PICTURES)


def _some_of_each_class(raw: RawPictures, most: int) -> RawPictures:
    groups: dict[tuple[str, str], list[RawPicture]] = defaultdict(list)
    for picture in sorted(raw.pictures, key=lambda picture: picture.name):
        groups[picture.part, picture.class_name].append(picture)
    return RawPictures([picture for own in groups.values() for picture in spread(own, most)], raw.classes)


def _store(raw: RawPictures, folder: Path, *, frames: FrameFormat, num_workers: int) -> dict[str, str]:
    """Store what is not there yet. Returns name -> name with suffix, of all that are there then."""
    names = [picture.name for picture in raw.pictures]
    with owned(folder, writes=(*(f"**/*{suffix}" for suffix in (".bmp", ".jpg", ".png")), REPORT_NAME)):
        check_same_format(folder / REPORT_NAME, frames)
        check_apart(names, folder)
        stored = _stored(folder)
        to_do = [picture for picture in raw.pictures if picture.name not in stored]
        report = Report(frames, kept=len(names) - len(to_do))
        write_json(folder / REPORT_NAME, asdict(report))
        chunks = [to_do[start : start + CHUNK] for start in range(0, len(to_do), CHUNK)]
        with Progress("storing pictures", len(names)) as progress:
            progress.start_at(report.kept)
            for outcomes in in_processes(
                partial(_store_chunk, folder=folder, frames=frames), chunks, num_workers=num_workers
            ):
                stored |= {name: name + suffix for name, suffix, _ in outcomes if suffix}
                report.failed |= {name: reason for name, _, reason in outcomes if reason}
                progress.advance(len(outcomes))
        report.written = len(to_do) - len(report.failed)
        write_json(folder / REPORT_NAME, asdict(report))
    print(f"{report.written} pictures stored, {report.kept} kept from before, {len(report.failed)} failed.")
    if report.failed:
        print(f"  failed: {some([f'{name} {reason}' for name, reason in sorted(report.failed.items())])}")
    return {name: stored[name] for name in names if name in stored}


def _stored(folder: Path) -> dict[str, str]:
    """Name without suffix -> name with it, of the files that are there; an empty one is left by a power cut."""
    files = [path for path in files_ending(folder, PICTURE_SUFFIXES) if path.stat().st_size]
    names = [path.relative_to(folder) for path in files]
    return {name.with_suffix("").as_posix(): name.as_posix() for name in names}


def _store_chunk(pictures: Sequence[RawPicture], *, folder: Path, frames: FrameFormat) -> list[Outcome]:
    return [_try_store(picture, folder=folder, frames=frames) for picture in pictures]


def _try_store(picture: RawPicture, *, folder: Path, frames: FrameFormat) -> Outcome:
    try:
        if isinstance(picture.place, int):
            pixels = to_pixels(picture.read())
            suffix, content = encode(resize(pixels, frames.short_side) if frames.short_side else pixels)
        else:
            suffix, content = convert(picture.read(), frames=frames)
    except PictureError as error:
        return picture.name, "", str(error)
    path = folder / f"{picture.name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{suffix}")  # `remove_leftovers` knows this form
    with naming(path):
        temporary.write_bytes(content)
        os.replace(temporary, path)
    return picture.name, suffix, ""

"""Entries of a name into the data tools.

An entry gets a folder of its own and a name. It raises a ValueError if the command rejects the name, and an
EscapedError if the command used a path outside the folder that it was given.
"""

import csv
import functools
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath

from data_tools import archive, build_annotations, extract_frames, partition, prepare
from data_tools.download import Source
from tests.videos import moving_square, write_video

Entry = Callable[[Path, str], None]
Write = Callable[[Path, str], object]


class EscapedError(Exception):
    """A path outside the folder of the command."""


def stay_inside(folder: Path, paths: Iterable[Path]) -> None:
    """Raise an EscapedError if one of the paths leads outside the folder."""
    for path in paths:
        try:
            is_inside = path.resolve().is_relative_to(folder.resolve())
        except ValueError:  # NUL
            is_inside = False
        if not is_inside:
            raise EscapedError(path)


@functools.cache
def video_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_video(Path(folder) / "v.mp4", moving_square(num_frames=2, height=16, width=16)).read_bytes()


def last(name: str) -> str:
    """Last part of a name, in either spelling."""
    return PurePosixPath(name.replace("\\", "/")).name


def write_raw(folder: Path, *stems: str) -> Path:
    """Flat raw files of these stems, as far as a disk can have them."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        try:
            (folder / f"{stem}.mp4").write_bytes(video_bytes())
        except (OSError, ValueError):
            continue
    return folder


# Lists


def text_list(folder: Path, name: str) -> None:
    write_text(folder / "train.txt", f"{name}.mp4 1\n")


def json_list(folder: Path, name: str) -> None:
    write_text(folder / "train.json", json.dumps([{"name": name, "label": 1}]))


def kinetics(folder: Path, label: str, video: str) -> None:
    with (folder / "train.csv").open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        csv.writer(file).writerows(
            [("label", "youtube_id", "time_start", "time_end", "split"), (label, video, 0, 10, "train")]
        )


def kinetics_json(folder: Path, label: str, video: str) -> None:
    entry = {"annotations": {"label": label, "segment": [0, 10]}, "subset": "train"}
    write_text(folder / "train.json", json.dumps({video: entry}))


def ucf(folder: Path, class_name: str, file: str) -> None:
    write_text(folder / "classInd.txt", f"1 {class_name}\n")
    write_text(folder / "trainlist01.txt", f"{file}.avi 1\n")


def hmdb(folder: Path, class_name: str, file: str) -> None:
    path = folder / f"{class_name}_test_split1.txt"
    try:
        if path.parent != folder:
            raise OSError
        write_text(path, f"{file}.avi 1 \n")
    except (OSError, ValueError) as error:
        raise ValueError("no disk has such a list") from error


def write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")


LISTS: dict[str, Write] = {
    "list of paths": text_list,
    "json of names": json_list,
    "Kinetics csv, label": lambda folder, name: kinetics(folder, name, "v"),
    "Kinetics csv, id": lambda folder, name: kinetics(folder, "walk", name),
    "Kinetics json, label": lambda folder, name: kinetics_json(folder, name, "v"),
    "Kinetics json, id": lambda folder, name: kinetics_json(folder, "walk", name),
    "UCF class": lambda folder, name: ucf(folder, name, "v"),
    "UCF file": lambda folder, name: ucf(folder, "walk", f"walk/{name}"),
    "HMDB class": lambda folder, name: hmdb(folder, name, "v"),
    "HMDB file": lambda folder, name: hmdb(folder, "walk", name),
}


def prepared(own: Path, name: str, *, write: Write) -> None:
    lists, out = own / "lists", own / "out"
    lists.mkdir()
    write(lists, name)
    raw = write_raw(own / "raw", "v", last(name))
    prepare.prepare(raw, lists, out, frames=extract_frames.FrameFormat(0), num_workers=1)
    stay_inside(out / "zips", out.rglob("*.zip"))


def annotated(own: Path, name: str) -> None:
    lists, zips = own / "lists", own / "zips"
    lists.mkdir()
    json_list(lists, name)
    write_zip(zips / "walk/v.zip")
    splits = build_annotations.read_splits(lists)
    build_annotations.build_annotations(splits, zips, own / "out")
    stay_inside(zips, (zips / f"{annotation.name}.zip" for split in splits.values() for annotation in split))


def by_folder(own: Path, name: str) -> None:
    """A raw file whose own name is hostile, as far as a disk takes it."""
    raw, parts = own / "raw", name.split("/")
    try:
        if not set(parts).isdisjoint({"", ".", ".."}):
            raise OSError
        (raw / name).parent.mkdir(parents=True)
        (raw / f"{name}.mp4").write_bytes(video_bytes())
    except (OSError, ValueError) as error:
        raise ValueError("no disk has such a file") from error
    extract_frames.main([f"--raw_dir={raw}", f"--out_dir={own / 'out'}", "--num_workers=1"])
    stay_inside(own / "out", own.rglob("*.zip"))


def write_zip(path: Path, entry: str = "img_00001.jpg", content: bytes = b"v") -> Path:
    """Write a zip of one entry, whose name is stored as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo("x")
        info.filename = info.orig_filename = entry  # as it is: the class would mend it
        file.writestr(info, content)
    return path


# Other tools


def partitioned(own: Path, name: str) -> None:
    json_list(own, name)
    partition.main([f"--json_path={own / 'train.json'}", f"--output_path={own / 'out'}", "--num_clients=1"])
    stay_inside(own, [own / name])


def unpacked(own: Path, name: str) -> None:
    folder = archive.unpack(write_zip(own / "a.zip", name), own / "out")
    stay_inside(folder, own.rglob("v*"))


def downloaded(own: Path, name: str) -> None:
    stay_inside(own, [own / Source(f"https://host/{name}", "0" * 64).file_name])


TOOLS: dict[str, Entry] = {
    **{f"prepare, {style}": partial(prepared, write=write) for style, write in LISTS.items()},
    "build_annotations": annotated,
    "extract_frames by folder": by_folder,
    "partition": partitioned,
    "unpack": unpacked,
    "download": downloaded,
}

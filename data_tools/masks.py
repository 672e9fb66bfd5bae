"""Pictures with masks -> `<out_dir>/pictures`, each beside the objects of its mask, and `<out_dir>/annotations`.

    python -m data_tools.masks --picture_dir membrane/images --mask_dir membrane/masks --out_dir data/membrane
    python -m data_tools.masks --picture_dir photos --mask_dir labels --kind classes --out_dir data/mine
    python -m data_tools.masks --picture_dir images --mask_dir masks --tile 64 --out_dir data/membrane_64

A picture and its mask have the same path below their folders but for the ending; the first folder of a path is its
owner (data_tools.partition --method by-owner). A mask is binary (white, or all that is not 0, is class 1) or holds the
ids of classes from 1 to 255 (0 is the background, also as a palette). Objects are connected components of a class with
at least --least_area pixels; pictures without one are counted and left out, and so are broken, unpaired and unlike
sized ones, which are named. --tile cuts pictures into squares of their original resolution; what is left over at the
right and at the bottom is dropped. The label of a picture is the class with most pixels in it. A command that was
stopped leaves pictures without lists: remove them and repeat it.

Pictures are drawn for the test list by a hash of their pixels: equal pictures never lie in both lists, and the draw of
a picture does not change when others are added.
"""

import argparse
import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.data.masks import MOST_CLASSES, SUFFIX, Objects, encode_objects, find_objects, main_class, objects_path
from fedvssl.data.video import PICTURE_SUFFIXES
from fedvssl.files.atomic import naming, write_json
from fedvssl.files.lock import owned
from fedvssl.files.names import check_name
from fedvssl.files.progress import Progress

from .command import command_parser, run_command
from .list_words import some
from .picture_format import PictureError, decode, encode
from .walk import files_ending

KINDS = ("binary", "classes")
REPORT_NAME = "masks_report.json"
EMPTY = "has no object"  # begins the reason of a picture that is whole, but of no use
PART_SIZE = 2**64  # of the hash that draws the test list


@dataclass(frozen=True)
class MaskFormat:
    """How masks are read and pictures are cut.

    Args:
        kind: "binary" or "classes".
        least_area: fewest pixels of an object.
        tile: side of the squares; 0 for whole pictures.
        test_share: share of the pictures that is drawn for the test list; 0 for none.

    Raises:
        ValueError: for another value.
    """

    kind: str = "binary"
    least_area: int = 100
    tile: int = 0
    test_share: float = 0.2

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"--kind {self.kind} is unknown: choose {' or '.join(KINDS)}.")
        if self.least_area < 1:
            raise ValueError(f"--least_area {self.least_area} must be at least 1.")
        if self.tile < 0 or 0 < self.tile < 8:
            raise ValueError(f"--tile {self.tile} must be 0 for whole pictures, or at least 8.")
        if not 0 <= self.test_share < 1:
            raise ValueError(f"--test_share {self.test_share} must be at least 0 and below 1.")


@dataclass
class Report:
    """Outcome: numbers of pictures (tiles) and objects, and the reason for each picture that is left out."""

    format: MaskFormat
    pictures: int = 0
    objects: int = 0
    objects_of_class: dict[str, int] = field(default_factory=dict)
    without_object: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


def prepare_masks(picture_dir: Path, mask_dir: Path, out_dir: Path, *, form: MaskFormat) -> Report:
    """Store all pictures with their objects, and list them.

    Raises:
        ValueError: if there are no pairs, a name is ambiguous or no name, another process works in `out_dir`, it has
            pictures already, or no picture has an object, or none is left for training or for the test.
    """
    pairs, left_out = find_pairs(picture_dir, mask_dir)
    folder, lists = out_dir / "pictures", dict[str, list[Annotation]](train=[], test=[])
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds pictures already: remove it, or name another --out_dir.")
    report = Report(form, left_out=left_out)
    counts: Counter[int] = Counter()
    with owned(out_dir, writes=(REPORT_NAME,)), Progress("storing pictures", len(pairs)) as progress:
        for name, (picture, mask) in pairs.items():
            try:
                pixels, class_ids = read_pair(picture, mask, kind=form.kind)
                part = drawn_part(pixels, form.test_share)
                for own_name, tile, objects in with_objects(name, pixels, class_ids, form=form):
                    if not len(objects):
                        report.without_object += 1
                        continue
                    stored = store(folder, own_name, tile, objects)
                    lists[part].append(Annotation(stored, main_class(objects) - 1))
                    counts.update(objects.classes.tolist())
            except (PictureError, ValueError) as error:
                report.left_out[name] = str(error)
            progress.advance(1)
        report.pictures, report.objects = sum(map(len, lists.values())), counts.total()
        report.objects_of_class = {str(class_id): counts[class_id] for class_id in sorted(counts)}
        write_json(out_dir / REPORT_NAME, asdict(report))
        check_lists(lists, report, form=form)
        os.sync()  # once for all: waiting for the disk after each file would take longer than all else
        for part, annotations in lists.items():
            if annotations:
                write_annotations(out_dir / f"annotations/{part}_split_1.json", sorted(annotations, key=by_name))
    return report


def by_name(annotation: Annotation) -> str:
    return annotation.name


def check_lists(lists: dict[str, list[Annotation]], report: Report, *, form: MaskFormat) -> None:
    """Check that there is something to train on, and to test with if that was asked for.

    Raises:
        ValueError: telling why not.
    """
    if not report.pictures:
        first = f", such as {next(iter(report.left_out.items()))}" if report.left_out else ""
        raise ValueError(
            f"No picture has an object of {form.least_area} pixels: {report.without_object} have none, "
            f"{len(report.left_out)} are left out{first}."
        )
    for part in ("train", "test") if form.test_share else ("train",):
        if not lists[part]:
            raise ValueError(
                f"None of the {report.pictures} pictures is drawn for the {part} list: give another --test_share than "
                f"{form.test_share:g}, and --out_dir a new folder."
            )


def find_pairs(picture_dir: Path, mask_dir: Path) -> tuple[dict[str, tuple[Path, Path]], dict[str, str]]:
    """Pictures and their masks by their common name, and the reasons for names that lack one of both.

    Raises:
        ValueError: if a folder is missing or holds no picture, two files have one name, or nothing is paired.
    """
    found = [_by_name(folder) for folder in (picture_dir, mask_dir)]
    pictures, masks = found
    left_out = {name: f"has no mask in {mask_dir}" for name in pictures.keys() - masks.keys()}
    left_out |= {name: f"is a mask without a picture in {picture_dir}" for name in masks.keys() - pictures.keys()}
    pairs = {name: (pictures[name], masks[name]) for name in pictures if name in masks}
    for name in [name for name in pairs if name.endswith(SUFFIX.removesuffix(".png"))]:
        left_out[name], _ = "ends like the file of another picture's objects", pairs.pop(name)
    if not pairs:
        raise ValueError(
            f"No picture in {picture_dir} has a mask of its name in {mask_dir}, such as "
            f"{next(iter(pictures))} and {next(iter(masks))}."
        )
    return pairs, dict(sorted(left_out.items()))


def _by_name(folder: Path) -> dict[str, Path]:
    """Pictures below a folder by their path without the ending."""
    if not folder.is_dir():
        raise ValueError(f"No folder {folder}: name the folders of the pictures and of their masks.")
    found: dict[str, Path] = {}
    for path in files_ending(folder, PICTURE_SUFFIXES):
        name = check_name(path.relative_to(folder).with_suffix("").as_posix(), where=folder)
        if name in found:
            raise ValueError(f"{found[name]} and {path} have one name: remove one of them.")
        found[name] = path
    if not found:
        raise ValueError(f"{folder} holds no picture ({', '.join(sorted(PICTURE_SUFFIXES))}).")
    return found


def read_pair(picture: Path, mask: Path, *, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, uint8 [H,W,3] RGB, and the id of the class of each, uint8 [H,W].

    Raises:
        ValueError: if one of both is damaged, they have other sizes, or the mask holds no classes; without its name.
    """
    try:
        pixels, _, _ = decode(picture.read_bytes())
    except PictureError as error:
        raise ValueError(f"{error} ({picture})") from error
    values = mask_values(mask, height=pixels.shape[0], width=pixels.shape[1])
    if kind == "binary":
        highest = int(values.max())
        return pixels, (values > (127 if highest > 1 else 0)).astype(np.uint8)
    if values.max() > MOST_CLASSES:
        raise ValueError(f"has a mask with class {values.max()}, at most {MOST_CLASSES} can be stored")
    class_ids = np.clip(np.nan_to_num(values), 0, MOST_CLASSES).astype(np.uint8)
    if (class_ids != values).any():
        raise ValueError("has a mask with values that are no whole numbers from 0")
    return pixels, class_ids


def mask_values(path: Path, *, height: int, width: int) -> np.ndarray:
    """Values of a mask, [H,W]: grey, indices of a palette, or the one value of all three channels.

    Raises:
        ValueError: if it cannot be read, is not of this size (told before memory is taken), or has colours.
    """
    values = np.empty(0)
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as mask:  # Pillow warns of many pixels
            if (own := mask.size) == (width, height):
                values = np.asarray(mask)
    except Exception as error:  # a damaged file may raise anything and must not stop the rest
        raise ValueError(f"has a mask that cannot be read ({path})") from error
    if own != (width, height):
        raise ValueError(f"has {width}x{height} pixels, its mask {own[0]}x{own[1]}")
    if values.ndim == 3:
        colours = values[..., :3] if values.shape[-1] >= 3 else values[..., :1]
        if (colours != colours[..., :1]).any():
            raise ValueError("has a mask with colours: save it in grey or with a palette")
        values = colours[..., 0]
    return values


def drawn_part(pixels: np.ndarray, test_share: float) -> str:
    """ "test" for about this share of all pictures, by a hash of the pixels; else "train"."""
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8, person=b"test list").digest()
    return "test" if int.from_bytes(digest, "little") < test_share * PART_SIZE else "train"


def with_objects(
    name: str, pixels: np.ndarray, class_ids: np.ndarray, *, form: MaskFormat
) -> Iterator[tuple[str, np.ndarray, Objects]]:
    """The picture, or each of its tiles, with its name and objects.

    Raises:
        ValueError: if it is smaller than a tile, or has too many objects; without its name.
    """
    height, width = class_ids.shape
    if not form.tile:
        yield name, pixels, find_objects(class_ids, least_area=form.least_area)
    elif min(height, width) < form.tile:
        raise ValueError(f"has {width}x{height} pixels, less than a tile of {form.tile}")
    for y in range(0, height - form.tile + 1, form.tile) if form.tile else ():
        for x in range(0, width - form.tile + 1, form.tile):
            window = slice(y, y + form.tile), slice(x, x + form.tile)
            objects = find_objects(class_ids[window], least_area=form.least_area)
            yield f"{name}_y{y:05}_x{x:05}", pixels[window], objects


def store(folder: Path, name: str, pixels: np.ndarray, objects: Objects) -> str:
    """Write a picture, without loss, and its objects; return its name with the suffix."""
    suffix, content = encode(pixels)
    path = folder / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    for file, own in ((objects_path(path), encode_objects(objects)), (path, content)):
        with naming(file):
            file.write_bytes(own)
    return f"{name}{suffix}"


def tell(report: Report, out_dir: Path) -> None:
    """Print the numbers, and the first of those that are left out."""
    of_class = ", ".join(f"class {name}: {number}" for name, number in report.objects_of_class.items())
    print(f"{report.pictures} pictures with {report.objects} objects ({of_class})")
    if report.without_object:
        print(f"{report.without_object} without an object of {report.format.least_area} pixels are left out")
    if report.left_out:
        lines = [f"{name} {reason}" for name, reason in report.left_out.items()]
        print(f"{len(lines)} are left out: {some(lines, 5)}; all are named in {out_dir / REPORT_NAME}")


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = command_parser(__doc__)
    parser.add_argument("--picture_dir", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--mask_dir", type=Path, required=True, help="folder of their masks")
    parser.add_argument("--out_dir", type=Path, required=True, help="for the files and lists")
    parser.add_argument("--kind", default=MaskFormat.kind, help="of the masks: binary or classes")
    parser.add_argument("--least_area", type=int, default=MaskFormat.least_area, help="fewest pixels of an object")
    parser.add_argument("--tile", type=int, default=MaskFormat.tile, help="side of squares, in pixels; 0: whole")
    parser.add_argument("--test_share", type=float, default=MaskFormat.test_share, help="of the pictures; 0: no list")
    args: argparse.Namespace = parser.parse_args(argv)
    form = MaskFormat(args.kind, args.least_area, args.tile, args.test_share)
    tell(prepare_masks(args.picture_dir, args.mask_dir, args.out_dir, form=form), args.out_dir)


if __name__ == "__main__":
    run_command(main)

"""Split lists -> `<out_dir>/{train,test}_split_{1,2,3}.json`, with only the videos that have frames.

    python -m data_tools.build_annotations --ann_dir data/ucf101/lists --zip_dir data/ucf101/zips \\
        --out_dir data/ucf101/annotations

Without --ann_dir all videos in --zip_dir become one training split, labelled by their folders. Listed videos without a
zip are left out, counted, and named in `<out_dir>/left_out.json`.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

from fedvssl.data.annotations import write_annotations
from fedvssl.data.video import zip_path
from fedvssl.files.atomic import write_json
from fedvssl.files.lock import owned

from .command import command_parser, run_command
from .list_words import some
from .lists import Splits, read_splits, splits_from_names

# Words for those that are listed: all of them, a good one, bad ones.
VIDEOS = ("videos", "has a zip", "listed videos without a raw file or frames")
MOST_NAMED = 5  # of those that are left out
PICTURES = ("pictures", "can be read", "pictures that cannot be read")


def build_annotations(
    splits: Splits, zip_dir: Path, out_dir: Path, *, doubtful: Collection[str] = (), told: Collection[str] = ()
) -> list[str]:
    """Write one annotation file per split and report the videos left out.

    Args:
        splits: "train_split_1" -> its videos.
        zip_dir: folder with `<name>.zip` for each video that has frames.
        doubtful: names that are left out, whether they have frames or not.
        told: names of which the reader knows already that they have none.

    Returns:
        names of the listed videos that are left out, sorted.

    Raises:
        ValueError: if no listed video has a zip, or another process works in `out_dir`.
    """
    listed = {annotation.name for split in splits.values() for annotation in split}
    there = {name for name in listed.difference(doubtful) if zip_path(zip_dir, name).is_file()}
    if not there:
        raise ValueError(f"None of the {len(listed)} listed videos has a zip in {zip_dir}: extract the frames first.")
    return write_lists(splits, there, out_dir, told=told)


def write_lists(
    splits: Splits,
    there: Collection[str],
    out_dir: Path,
    *,
    words: tuple[str, str, str] = VIDEOS,
    told: Collection[str] = (),
) -> list[str]:
    """Write one annotation file per split, and `left_out.json` if something is left out.

    Args:
        splits: "train_split_1" -> what is listed.
        there: names of what can be used.
        words: for the lines that are printed.
        told: names that are not printed again.

    Returns:
        names of what is left out, sorted.

    Raises:
        ValueError: if another process works in `out_dir`.
    """
    listed = {annotation.name for split in splits.values() for annotation in split}
    with owned(out_dir, writes=("*.json",)):
        _write(splits, there, out_dir, words)
        return _write_left_out(sorted(listed.difference(there)), out_dir / "left_out.json", words, told)


def _write(splits: Splits, there: Collection[str], out_dir: Path, words: tuple[str, str, str]) -> None:
    for old in out_dir.glob("t*_split_[0-9].json"):
        old.unlink()
    kind, good, _ = words
    for split, annotations in sorted(splits.items()):
        kept = [annotation for annotation in annotations if annotation.name in there]
        left_out = len(annotations) - len(kept)
        if kept:
            write_annotations(out_dir / f"{split}.json", kept)
            print(f"{split}.json: {len(kept)} {kind}" + (f", {left_out} left out" if left_out else ""))
        else:
            print(f"{split}.json: not written, none of its {left_out} {kind} {good}")


def splits_of_zips(zip_dir: Path) -> Splits:
    """All zips as one training split, labelled by their folders."""
    return splits_from_names(
        path.relative_to(zip_dir).with_suffix("").as_posix() for path in zip_dir.rglob("[!.]*.zip")
    )


def _write_left_out(names: list[str], path: Path, words: tuple[str, str, str], told: Collection[str]) -> list[str]:
    path.unlink(missing_ok=True)
    if names:
        write_json(path, names)
        untold = [name for name in names if name not in told]
        which = f" ({some(untold, MOST_NAMED)})" if untold else ""
        print(f"{words[2]}, left out: {len(names)}{which}; all names are in {path}")
    return names


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__)
    parser.add_argument("--ann_dir", type=Path, help="folder with the split lists; without it folders are classes")
    parser.add_argument("--zip_dir", type=Path, required=True, help="folder with the zips")
    parser.add_argument("--out_dir", type=Path, required=True, help="folder for the annotation files")
    args = parser.parse_args(argv)
    splits = read_splits(args.ann_dir) if args.ann_dir else splits_of_zips(args.zip_dir)
    build_annotations(splits, args.zip_dir, args.out_dir)


if __name__ == "__main__":
    run_command(main)

"""Split: one split of a labelled data set, the section `data` of the configuration as an object."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


def list_path(annotation_dir: str | Path, split: object, part: str) -> Path:
    """The annotation file of a split; `part` is "train" or "test"."""
    return Path(annotation_dir) / f"{part}_split_{split}.json"


def found_media_dir(media_dir: Path) -> Path:
    """The path itself; ValueError if there is no such folder."""
    if not media_dir.is_dir():
        raise ValueError(f"No folder {media_dir}: set data_dir to where the videos were prepared.")
    return media_dir


@dataclass(frozen=True, kw_only=True)
class Split:
    """Place and settings of the videos of one split.

    Args:
        name: of the data set; another one may have videos of the same names.
        media_dir: folder with the files of the videos.
        annotation_dir: folder with the lists.
        split: its number or name, in the names of the lists.
        num_classes: upper bound on the labels. It is still the word auto where there are no lists to count it in, but
            whoever needs it reads them first.
        validation: share or number of training videos that take the place of the test list; None for the test list.
        validation_seed: of their choice.
        allow_test_videos: True if training may see test videos.
        train_list: file that takes the place of the training list; None for that of the split, from which validation
            videos are drawn in any case.

    Raises:
        ValueError: if `allow_test_videos` is neither true nor false. `hold_out` checks `validation` against the list.
    """

    name: str
    media_dir: Path
    annotation_dir: Path
    split: int | str
    num_classes: int
    validation: float | None
    validation_seed: int
    allow_test_videos: bool = False  # data sets of one's own need not have it
    train_list: Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.allow_test_videos, bool):
            raise ValueError(f"data.allow_test_videos={self.allow_test_videos} must be true or false.")

    @classmethod
    def of(cls, *sections: Mapping[str, Any]) -> "Split":
        """Read the section `data`; settings of a further section, such as `eval`, take the place of its own.

        Raises:
            ValueError: for a place that is no word.
        """
        names = {field.name for field in fields(cls)}
        known = {name: value for section in sections for name, value in section.items() if name in names}
        paths = [name for name in ("media_dir", "annotation_dir", "train_list") if known.get(name) is not None]
        for name in paths:
            if not isinstance(known[name], str | Path):
                raise ValueError(f"data.{name}={known[name]} must be a path, in quotes if it looks like a number.")
        return cls(**{**known, **{name: Path(known[name]) for name in paths}})

    @property
    def test_part(self) -> str:
        """Name of what stands in for the part "test": "validation" or "test"."""
        return "test" if self.validation is None else "validation"

    def list_path(self, part: str) -> Path:
        """The annotation file of the part "train" or "test"."""
        own = self.train_list if part == "train" else None
        return own or list_path(self.annotation_dir, self.split, part)

    @property
    def whole_train_list(self) -> Path:
        """The split's own training list, from which validation videos are drawn."""
        return list_path(self.annotation_dir, self.split, "train")

    def found_train_list(self) -> Path:
        """The training list.

        Raises:
            ValueError: if `train_list` names no file.
        """
        if self.train_list is not None and not self.train_list.is_file():
            raise ValueError(
                f"No file {self.train_list}, which data.train_list names: a list of labelled samples, labelled.json, "
                "is written by data_tools.partition --labelled_share."
            )
        return self.list_path("train")

    def lists_read(self) -> dict[str, Path]:
        """The annotation files that decide the videos: without the test list if videos are held out.

        Raises:
            ValueError: as `found_train_list`.
        """
        lists = {"train list": self.found_train_list()}
        if self.validation is None:
            return {**lists, "test list": self.list_path("test")}
        return lists if self.train_list is None else {**lists, "list of validation": self.whole_train_list}


def refuse_train_list(data: Split) -> None:
    """Reject a training list for pre-training, whose clients have lists of their own.

    Raises:
        ValueError: if there is one.
    """
    if data.train_list is not None:
        raise ValueError(
            f"data.train_list={data.train_list} has no effect on pre-training, whose clients train on the lists in "
            "partition_dir: leave it out, or give it to the command that reads labels."
        )

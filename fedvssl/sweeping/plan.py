"""Plan of a sweep: its cells, their commands, and the settings that decide their numbers."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from fedvssl.config import Config, compose
from fedvssl.data.annotations import lists_in, read_annotations, write_annotations
from fedvssl.data.client_lists import compare_with_tests, recorded
from fedvssl.data.seen import unseen_labels
from fedvssl.data.split import Split, refuse_train_list
from fedvssl.data.splits import few_labels, labelled_videos, listed_videos
from fedvssl.data.validation import group_of
from fedvssl.files.arrays import Arrays
from fedvssl.files.settings import Settings, foreign_class, run_settings
from fedvssl.overrides import parse_overrides

PRETRAIN, FINETUNE = "pretrain", "finetune"
# Values of a row's `start`.
RANDOM, INITIAL, SCRATCH, MEAN_FRAME = STARTS = ("random", "random_initial", "scratch", "mean_frame")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table; conf/sweep.yaml describes the settings."""

    title: str
    start: str | None = None
    pooled: bool = False
    alone: int | None = None
    overrides: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Measure:
    """One measure of each row, or of those in `rows`; conf/sweep.yaml describes the settings."""

    columns: dict[str, str]
    command: str
    rows: list[str] | None = None
    overrides: list[str] = field(default_factory=list)
    baseline: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Settings of a sweep, resolved for one split.

    Args:
        data: videos of the evaluations.
        data_words: overrides that give every command these data.
        overrides: further ones, by the command that gets them.
        work_dir: folder of the runs, features and logs.
        results_dir: folder of the cells' JSONs and the tables.
        seeds, splits: of all cells.
        rows, measures: by their names, in the order of the table.
        baseline: row that all others are compared with in pairs, by measures without one of their own.
    """

    data: Split
    data_words: list[str]
    overrides: dict[str, list[str]]
    work_dir: Path
    results_dir: Path
    seeds: list[int]
    splits: list[int]
    rows: dict[str, Row]
    measures: dict[str, Measure]
    baseline: str | None = None


@dataclass(frozen=True)
class Cell:
    """One row of the table with one seed on one split."""

    row: str
    seed: int
    split: int | str

    def __str__(self) -> str:
        return f"{self.row}-seed{self.seed}-split{self.split}"


@dataclass(frozen=True)
class Step:
    """One step of the work on a cell.

    Args:
        cell: its row, seed and split.
        kind: "pretrain", or the name of a measure.
        command: "pretrain", "finetune", or a protocol.
        commands: words after `python`, one list for each command.
        settings: the settings that decide the numbers, see `run_settings`.
        result: file that the last command writes: metrics, or the weights of pre-training.
        start: of the row.
        data: split of a measure, whose own configuration may have another training list; None for pre-training.
    """

    cell: Cell
    kind: str
    command: str
    commands: list[list[str]]
    settings: Settings
    result: Path
    start: str | None = None
    data: Split | None = None

    def __str__(self) -> str:
        return f"{self.cell} {self.kind}"


class Plan:
    """The plan of a sweep on one split.

    Args:
        sweep: its settings, resolved for this split.
        free: settings of all commands that do not decide the numbers.
        lists_dir: folder for the lists of clients that it makes.
    """

    def __init__(self, sweep: Sweep, *, free: Collection[str], lists_dir: Path | None = None) -> None:
        self.sweep, self.free, self.data = sweep, free, sweep.data
        self.lists_dir = lists_dir or sweep.work_dir
        self.checked: set[Path] = set()  # lists of clients

    def steps(self, seed: int) -> Iterator[Step]:
        """Steps of one seed, row by row, the pre-training of a row before its measures."""
        for name, row in self.sweep.rows.items():
            cell, weights = Cell(name, seed, self.data.split), None
            if not row.start:
                pretraining = self.pretraining(cell)
                weights = pretraining.result
                yield pretraining
            for kind, measure in self.sweep.measures.items():
                if self.is_measured(name, measure):
                    make = self.finetuning if measure.command == FINETUNE else self.evaluation
                    yield make(cell, weights, kind)

    def is_measured(self, row: str, measure: Measure) -> bool:
        start = self.sweep.rows[row].start
        fits = start in (None, SCRATCH) if measure.command == FINETUNE else start != SCRATCH
        return fits and (measure.rows is None or row in measure.rows)

    def pretraining(self, cell: Cell) -> Step:
        """Step of a row's federated run."""
        row = self.sweep.rows[cell.row]
        words = [*self.words("main"), *row.overrides, f"seed={cell.seed}"]
        if self.data.validation is not None:
            words += flags(partition_dir=self.without_validation(cell, words))
        if row.pooled or row.alone is not None:
            words += flags(pool_size=1, partition_dir=self.one_client(cell, words))
        config = composed("base", tuple(words))
        files = lists_in(config["partition_dir"], config["pool_size"])
        self.check_lists(files)
        run_dir = self.folder(cell) / PRETRAIN
        command = ["-m", "fedvssl.main", *words, "keep_last=1", *flags(**{"hydra.run.dir": run_dir})]
        decisive = {name: value for name, value in config.items() if name != "eval"}  # an evaluation changes nothing
        refuse_train_list(Split.of(config["data"]))
        contents = {file.name: file for file in files} | start_of(config["init"])
        self.check_labels(cell, partial(recorded, config["data"]["name"], files, init=config["init"]))
        settings = run_settings(decisive, free=self.free, files=contents)
        return Step(cell, PRETRAIN, PRETRAIN, [command], settings, run_dir / f"round-{config['rounds']}-weights.npz")

    def evaluation(self, cell: Cell, weights: Path | None, kind: str) -> Step:
        """Step of one protocol on frozen weights; None stands for random ones."""
        command, words = self.sweep.measures[kind].command, self.words_of(kind, cell)
        folder = self.folder(cell) / kind
        places = flags(checkpoint=weights or RANDOM, work_dir=folder, feature_dir=self.sweep.work_dir / "features")
        config = composed(command, tuple(words))
        data = Split.of(config["data"])
        settings = run_settings(config, free=self.free, files=data.lists_read())
        commands, result = [["-m", f"fedvssl.{command}", *words, *places]], folder / f"{command}.json"
        return Step(cell, kind, command, commands, settings, result, start=self.sweep.rows[cell.row].start, data=data)

    def finetuning(self, cell: Cell, weights: Path | None, kind: str) -> Step:
        """Step of fine-tuning and its test, from scratch if `weights` is None."""
        own = [*self.sweep.overrides["finetune"], *self.sweep.measures[kind].overrides]
        recipe = [*self.words("recognition"), *own, f"seed={cell.seed}"]
        recipe += ["from_scratch=true" if weights is None else "from_scratch=false"]
        config = composed("finetune", tuple(recipe))
        few_labels([], config["labels_per_class"], seed=cell.seed)  # tells a mistake in it
        data = Split.of(config["data"])
        settings = run_settings(config, free=self.free, files=data.lists_read())
        folder, commands = self.folder(cell) / kind, []
        pretrained = folder / "model_pretrained.pth"
        if weights is not None:
            paths = [f"--pretrained_model_path={weights}", f"--output_path={pretrained}"]
            # The command takes the model from the run's folder, but not a class of one's own, which is named here.
            is_own = foreign_class(config["model"]) is not None
            model = [word for word in recipe if is_own and word.startswith(("model=", "model."))]
            commands += [["-m", "fedvssl.finetune_preprocess", *paths, *model]]
        commands += [["-m", "fedvssl.finetune", "finetune", *recipe, *flags(work_dir=folder, pretrained=pretrained)]]
        commands += [["-m", "fedvssl.test", "test", *self.words("recognition"), *flags(work_dir=folder)]]
        return Step(cell, kind, FINETUNE, commands, settings, folder / "test.json", data=data)

    def words(self, command: str) -> list[str]:
        """Arguments of every run of a command; the user's overrides come last and win."""
        data = [word for word in self.sweep.data_words if command != "main" or not word.startswith("data.train_list=")]
        return [*data, *self.sweep.overrides["all"], *self.sweep.overrides[command]]

    def words_of(self, kind: str, cell: Cell) -> list[str]:
        """Arguments of a measure that is a protocol."""
        return [*self.words("recognition"), *self.sweep.measures[kind].overrides, f"seed={cell.seed}"]

    @cached_property
    def held_out(self) -> set[str]:
        """Names of the validation videos."""
        return {video.name for video in labelled_videos(self.data, "test")}

    def folder(self, cell: Cell) -> Path:
        return self.sweep.work_dir / str(cell)

    def one_client(self, cell: Cell, words: list[str]) -> Path:
        """Write a partition with one client, which has the lists of all or that of one, and return its folder.

        Raises:
            ValueError: if there is no such client.
        """
        config, alone = composed("base", tuple(words)), self.sweep.rows[cell.row].alone
        files = lists_in(config["partition_dir"], config["pool_size"])
        if alone is not None:
            if not 1 <= alone <= len(files):
                raise ValueError(f"rows.{cell.row}.alone={alone} must be a client, 1 to {len(files)}.")
            files = [files[alone - 1]]
        folder = self.lists_dir / str(cell) / ("pool" if alone is None else f"alone{alone}")
        videos = (video for file in files for video in read_annotations(file))
        write_annotations(folder / "client_dist1.json", dict.fromkeys(videos))
        return folder

    def without_validation(self, cell: Cell, words: list[str]) -> Path:
        """Write the clients' lists without the held-out videos, and return their folder."""
        config, folder = composed("base", tuple(words)), self.lists_dir / str(cell) / "clients"
        for file in lists_in(config["partition_dir"], config["pool_size"]):
            listed = read_annotations(file)
            write_annotations(folder / file.name, [video for video in listed if video.name not in self.held_out])
        return folder

    def check_labels(self, cell: Cell, record: Callable[[], Arrays]) -> None:
        """Reject a pre-training with samples that a measure of its row wants to be held out of it.

        Args:
            cell: of the pre-training.
            record: gives the record that it will have, see `fedvssl.data.seen`.
        """
        for kind, measure in self.sweep.measures.items():
            if measure.command == FINETUNE or not self.is_measured(cell.row, measure):
                continue
            own = composed(measure.command, tuple(self.words_of(kind, cell)))
            if own["protocol"].get("held_out"):
                data = Split.of(own["data"])
                unseen_labels(data, listed_videos(data, "train"), record(), checkpoint=f"rows.{cell.row}")

    def check_lists(self, files: Sequence[Path]) -> None:
        """Reject clients that would train on test videos; each list is read once."""
        new = [file for file in files if file not in self.checked]
        lists = {str(file): read_annotations(file) for file in new}
        compare_with_tests(self.data, lists, section="overrides.main")
        self.checked |= {*new}


def groups_of(plans: Sequence[Plan]) -> dict[int | str, list[str]]:
    """Groups of the evaluated videos, by split."""
    return {plan.data.split: [group_of(video.name) for video in labelled_videos(plan.data, "test")] for plan in plans}


def start_of(init: str | None) -> dict[str, Path]:
    """The file of `init`, by this name; {} if the run starts from random weights.

    Raises:
        ValueError: if there is no such file.
    """
    if init is None:
        return {}
    path = Path(init).expanduser()
    if not path.is_file():
        raise ValueError(f"No file {path}: init in overrides.main or in a row names the checkpoint to start from.")
    return {"init": path}


def flags(**settings: Any) -> list[str]:
    """Overrides whose values may have any characters; None is null."""
    return parse_overrides([f"--{name}={'null' if value is None else value}" for name, value in settings.items()])


@cache
def composed(name: str, words: tuple[str, ...]) -> Config:
    """Cached result of `compose`; callers must not change it."""
    return compose(name, words)

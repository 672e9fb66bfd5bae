"""A folder of videos of several owners becomes a data set, lists by owner, and the words of a run."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from data_tools import own_videos
from data_tools.own_videos import recipe
from data_tools.owners import Video, held_out_of, labels_of, look, write_lists
from fedvssl.data.annotations import read_annotations
from fedvssl.rehearsal import longest_place
from tests.videos import moving_square, write_video

TINY = ("model.width=4", "task.sample.short_sides=[32,36]", "task.sample.crop_size=32", "eval.sample.crop_size=32")
PATCHES = "task.sample.patches.scales=[6,8,10]"


def raw_video(path: Path, *, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, moving_square(num_frames=20, height=48, width=64, seed=seed))


def owned_videos(**numbers: int) -> list[Video]:
    return [Video(f"{o}/{n}", Path(f"{o}/{n}.mp4"), o, "") for o, number in numbers.items() for n in range(number)]


def test_folders_are_owners_and_those_inside_classes(tmp_path: Path) -> None:
    for name in ("ann/run/a.avi", "ann/jump/b.avi", "bob/run/a.avi"):
        raw_video(tmp_path / name)
    videos = look(tmp_path, "first-folder", seed=7)
    assert {(video.owner, video.label) for video in videos} == {("ann", "run"), ("ann", "jump"), ("bob", "run")}
    assert len({video.name for video in videos}) == 3
    assert labels_of(videos) == {"jump": 0, "run": 1}


def test_a_number_of_owners_spreads_the_videos(tmp_path: Path) -> None:
    for number in range(5):
        raw_video(tmp_path / f"{number}.avi")
    videos = look(tmp_path, "2", seed=7)
    assert sorted(len([v for v in videos if v.owner == owner]) for owner in {v.owner for v in videos}) == [2, 3]
    assert labels_of(videos) == {"": 0}


@pytest.mark.parametrize(
    ("names", "owners", "sentence"),
    [
        (("a.avi", "ann/b.avi"), "first-folder", "a.avi lies in no owner's folder"),
        (("ann/a.avi", "ann/b.avi"), "first-folder", "has one owner, ann"),
        (("ann/a.avi", "bob/b.avi"), "many", "--owners many: give first-folder, or a number"),
        (("ann/a.avi", "bob/b.avi"), "3", "--owners 3: there are 2 videos"),
    ],
)
def test_no_federation_gets_a_sentence(tmp_path: Path, names: Sequence[str], owners: str, sentence: str) -> None:
    for name in names:
        raw_video(tmp_path / name)
    with pytest.raises(ValueError, match=sentence):
        look(tmp_path, owners, seed=7)


def test_each_owner_gives_its_share_and_keeps_a_video() -> None:
    videos = owned_videos(ann=10, bob=20, cy=1)
    held_out = held_out_of(videos, 0.2, seed=3)
    assert [sum(name.startswith(owner) for name in held_out) for owner in ("ann", "bob", "cy")] == [2, 4, 0]
    assert held_out == held_out_of(videos, 0.2, seed=3) != held_out_of(videos, 0.2, seed=4)


def test_a_video_is_with_its_owner_or_held_out(tmp_path: Path) -> None:
    videos = owned_videos(bob=4, ann=3)
    write_lists(videos, {"bob/1", "ann/0"}, tmp_path)
    tested = {annotation.name for annotation in read_annotations(tmp_path / "test_split_1.json")}
    first, second = (
        {annotation.name for annotation in read_annotations(tmp_path / f"client_distribution/client_dist{n}.json")}
        for n in (1, 2)
    )
    assert tested == {"bob/1", "ann/0"} and first == {"ann/1", "ann/2"} and second == {"bob/0", "bob/2", "bob/3"}
    assert {a.name for a in read_annotations(tmp_path / "train_split_1.json")} == first | second


def test_few_videos_get_more_rounds_unless_the_user_says_how_many(capsys: pytest.CaptureFixture) -> None:
    assert "rounds=50" in recipe([], sizes=[30, 30], labelled=True), "6 epochs of 2 batches in a round, 600 steps"
    assert "50 rounds" in capsys.readouterr().out
    assert not [word for word in recipe(["rounds=3"], sizes=[30, 30], labelled=True) if word.startswith("rounds=5")]
    assert not [word for word in recipe([], sizes=[300, 300], labelled=True) if word.startswith("rounds=")]


def test_without_labels_nothing_asks_for_classes() -> None:
    assert own_videos.UNLABELLED in recipe([], sizes=[30, 30], labelled=False)
    assert own_videos.UNLABELLED not in recipe([], sizes=[30, 30], labelled=True)


def test_a_no_at_the_terminal_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for answer, expected in {"n": False, "": True, "Yes": True}.items():
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert own_videos.confirmed(yes=False) is expected
    assert own_videos.confirmed(yes=True)


def test_the_command_prepares_estimates_and_starts_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A video that cannot be read costs itself alone; an owner of whom none can be read is left out."""
    for number in range(6):
        raw_video(tmp_path / f"mine/{'ann' if number % 2 else 'bob'}/{number}.avi", seed=number)
    (tmp_path / "mine/ann/broken.mp4").write_bytes(b"no video")
    (tmp_path / "mine/cid").mkdir()
    (tmp_path / "mine/cid/broken.mp4").write_bytes(b"no video")
    started = []
    monkeypatch.setattr(own_videos, "step", lambda title, module, words: started.append((module, [*words])))
    monkeypatch.setattr(own_videos, "finish", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    own_videos.main(["--videos", "mine", "--held_out", "0.34", "data_dir=data", "rounds=2", *TINY, PATCHES])
    told = capsys.readouterr().out
    assert "8 videos of 3 owners, no classes" in told and "2 rounds of 3 owners: about" in told
    assert "No video can be read of cid" in told
    ((module, words),) = started
    assert (
        module == "fedvssl.main" and words[-2:] == [PATCHES, "pool_size=2"] and "--hydra.run.dir=outputs/mine" in words
    )
    assert "--data.name='mine'" in words, "so that Hydra takes no name for a number"
    lists = tmp_path / "data/mine/annotations"
    listed = [json.loads((lists / f"{part}_split_1.json").read_text()) for part in ("train", "test")]
    assert sorted(len(part) for part in listed) == [2, 4] and "broken" not in str(listed)
    assert len(list((tmp_path / "data/mine/zips").rglob("*.zip"))) == 6
    raw_video(tmp_path / "mine/ann/new.avi")
    before = (lists / "train_split_1.json").read_bytes()
    with pytest.raises(ValueError, match=r"outputs/mine is a run on other videos or owners: give --name"):
        own_videos.main(["--videos", "mine", "--held_out", "0.34", "data_dir=data"])
    assert (lists / "train_split_1.json").read_bytes() == before, "the lists of a run stay"


def test_classes_whose_videos_cannot_be_read_are_none_to_evaluate_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """With strategy=fedbn a round cannot be evaluated either, which is told before the frames of all are extracted."""
    for number in range(6):
        raw_video(tmp_path / f"mine/{'ann' if number % 2 else 'bob'}/run/{number}.avi", seed=number)
    (tmp_path / "mine/ann/hop").mkdir()
    (tmp_path / "mine/ann/hop/broken.mp4").write_bytes(b"no video")
    ends, started = [], []
    monkeypatch.setattr(own_videos, "step", lambda title, module, words: started.append([*words]))
    monkeypatch.setattr(own_videos, "finish", lambda run, labelled: ends.append(labelled))
    monkeypatch.chdir(tmp_path)
    own_videos.main(["--videos", "mine", "strategy=fedbn", "rounds=2", "engine=local", *TINY, PATCHES])
    told = capsys.readouterr().out
    assert "2 classes" in told and "of training with 1 at a time" in told and ends == [False]
    assert {own_videos.UNLABELLED, "eval.every=null"} <= {*started[0]}
    assert told.index("keeps a part of the backbone") < told.rindex("videos extracted")


@pytest.mark.parametrize(
    ("sizes", "places", "longest"), [([10, 10, 10], 2, 20), ([30, 10, 10], 2, 30), ([5, 7], 1, 12)]
)
def test_the_estimate_counts_the_turns_of_the_clients(sizes: list[int], places: int, longest: int) -> None:
    assert longest_place(sizes, places) == longest


@pytest.mark.parametrize("share", ["0", "1", "2", "-0.5", "nan"])
def test_a_share_that_is_none_is_told_at_once(tmp_path: Path, share: str) -> None:
    with pytest.raises(ValueError, match=r"--held_out .*: give a share between 0 and 1"):
        own_videos.main(["--videos", str(tmp_path), f"--held_out={share}"])


def test_another_folder_of_the_run_is_refused_as_the_verdict_would_be_that_of_a_wrong_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give --name <another>"):
        own_videos.main(["--videos", str(tmp_path), "hydra.run.dir=elsewhere"])


def test_a_folder_that_is_none_is_told_with_the_flag_of_this_command(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"No folder .*nowhere: --videos is"):
        own_videos.main(["--videos", str(tmp_path / "nowhere")])


@pytest.mark.slow  # a whole run, its verdict and its report: half a minute
def test_a_folder_leads_to_a_verdict_and_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        raw_video(tmp_path / f"mine/{'ann' if number % 2 else 'bob'}/{'run' if number % 4 < 2 else 'hop'}/{number}.avi")
    monkeypatch.chdir(tmp_path)
    own_videos.main(["--videos", "mine", "--held_out", "0.34", "rounds=1", "engine=local", *TINY, PATCHES])
    run = tmp_path / "outputs/mine"
    assert json.loads((run / "verdict.json").read_text())["num_test"] == 4
    assert (run / "report.html").is_file() and list(run.glob("evaluation/*/retrieval.json"))

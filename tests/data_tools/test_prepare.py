"""From raw videos and lists to zips and annotation files, and the steps in between."""

import json
import shutil
from pathlib import Path

import pytest

from data_tools.build_annotations import build_annotations, main, splits_of_zips
from data_tools.extract_frames import FrameFormat
from data_tools.prepare import main as prepare_main
from data_tools.prepare import prepare
from data_tools.ucf101.prepare import main as prepare_ucf101
from fedvssl.data.annotations import Annotation, read_annotations
from tests.videos import moving_square, write_video


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Official spelling, CRLF, and one video more than there are files."""
    folder = tmp_path / "lists"
    folder.mkdir()
    for name, content in {
        "classInd.txt": "1 Archery\r\n2 HandstandPushups\r\n",
        "trainlist01.txt": "Archery/v_Archery_g08_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g08_c01.avi 2\r\n",
        "testlist01.txt": "Archery/v_Archery_g01_c01.avi\r\nArchery/v_Archery_g01_c02.avi\r\n",
        "testlist02.txt": "Archery/v_Archery_g01_c02.avi\r\n",
    }.items():
        (folder / name).write_bytes(content.encode())
    return folder


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A flat folder of re-encoded files; one of them is corrupt."""
    folder = tmp_path / "raw"
    for stem in ("v_Archery_g08_c01", "v_HandstandPushups_g08_c01", "v_Archery_g01_c01", "v_Unlisted_g01_c01"):
        write_video(folder / f"{stem}.mp4", moving_square(num_frames=3, height=24, width=32))
    (folder / "v_Archery_g01_c02.mp4").write_bytes(b"corrupt")
    return folder


def test_ucf101_with_the_published_flags(tmp_path: Path, raw: Path, lists: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "ucf101"
    flags = ["--raw_dir", str(raw), "--ann_dir", str(lists), "--out_dir", str(out)]
    prepare_ucf101([*flags, "--short_side", "16", "--num_workers", "1"])
    assert sorted(p.relative_to(out / "zips").as_posix() for p in out.rglob("*.zip")) == [
        "Archery/v_Archery_g01_c01.zip",
        "Archery/v_Archery_g08_c01.zip",
        "HandstandPushups/v_HandStandPushups_g08_c01.zip",
    ]
    assert json.loads((out / "annotations/train_split_1.json").read_text()) == [
        {"name": "Archery/v_Archery_g08_c01", "label": 1},
        {"name": "HandstandPushups/v_HandStandPushups_g08_c01", "label": 2},
    ]
    assert read_annotations(out / "annotations/test_split_1.json") == [Annotation("Archery/v_Archery_g01_c01", 0)]
    assert json.loads((out / "annotations/left_out.json").read_text()) == ["Archery/v_Archery_g01_c02"]
    printed = capsys.readouterr().out
    assert "failed: Archery/v_Archery_g01_c02" in printed
    assert "listed videos without a raw file or frames, left out: 1; all names" in printed, "its name is told once"
    assert "test_split_1.json: 1 videos, 1 left out" in printed
    assert "test_split_2.json: not written, none of its 1 videos" in printed


def test_any_folder_without_lists(tmp_path: Path) -> None:
    for name in ("wave/a.avi", "kick/b.avi"):
        write_video(tmp_path / "raw" / name, moving_square(num_frames=3, height=24, width=32))
    out = tmp_path / "out"
    prepare_main(["--raw_dir", str(tmp_path / "raw"), "--out_dir", str(out), "--short_side", "0", "--num_workers", "1"])
    expected = [Annotation("kick/b", 0), Annotation("wave/a", 1)]
    assert read_annotations(out / "annotations/train_split_1.json") == expected
    assert splits_of_zips(out / "zips") == {"train_split_1": expected}


def test_mistakes_are_found_before_anything_is_extracted(tmp_path: Path, raw: Path, lists: Path) -> None:
    frames = FrameFormat(short_side=16)
    (raw / "Archery").mkdir()
    shutil.copy(next(raw.glob("v_A*")), raw / "Archery/v.mp4")
    with pytest.raises(ValueError, match="lies in no class folder"):
        prepare(raw, None, tmp_path / "out", frames=frames, num_workers=1)
    shutil.rmtree(raw / "Archery")
    for path in raw.glob("v_A*"):
        path.unlink()
    (raw / "v_HandstandPushups_g08_c01.mp4").unlink()
    with pytest.raises(ValueError, match="None of the 4 listed videos has a file"):
        prepare(raw, lists, tmp_path / "out", frames=frames, num_workers=1)
    assert not (tmp_path / "out").exists()


def test_annotations_alone(tmp_path: Path, lists: Path) -> None:
    zip_dir, out = tmp_path / "zips", tmp_path / "annotations"
    (zip_dir / "Archery").mkdir(parents=True)
    for name in ("v_Archery_g08_c01", "v_Archery_g01_c01", "v_Archery_g01_c02"):
        (zip_dir / "Archery" / f"{name}.zip").touch()
    main(["--ann_dir", str(lists), "--zip_dir", str(zip_dir), "--out_dir", str(out)])
    names = ["left_out.json", "test_split_1.json", "test_split_2.json", "train_split_1.json"]
    assert sorted(p.name for p in out.iterdir()) == names
    # What no longer holds does not stay: here a split that is not listed any more.
    build_annotations({"train_split_1": [Annotation("Archery/v_Archery_g08_c01", 0)]}, zip_dir, out)
    assert [p.name for p in out.iterdir()] == ["train_split_1.json"]


def test_no_frames_at_all_is_an_error(tmp_path: Path, lists: Path) -> None:
    with pytest.raises(ValueError, match="None of the 4 listed videos has a zip"):
        main(["--ann_dir", str(lists), "--zip_dir", str(tmp_path), "--out_dir", str(tmp_path / "out")])


def test_fewer_videos_than_clients_are_told_before_anything_is_extracted(tmp_path: Path) -> None:
    for number in range(3):
        write_video(tmp_path / f"raw/jump/v{number}.mp4", moving_square(num_frames=3, height=24, width=32))
    words = [f"--raw_dir={tmp_path / 'raw'}", f"--out_dir={tmp_path / 'out'}", "--num_workers=1"]
    with pytest.raises(ValueError, match=r"3 training videos cannot be shared by 4 clients: .* --num_clients"):
        prepare_main([*words, "--num_clients=4"])
    assert not (tmp_path / "out").exists()
    prepare_main([*words, "--num_clients=3"])


def test_missing_videos_are_told_once_and_briefly(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_video(tmp_path / "raw/v0.mp4", moving_square(num_frames=3, height=24, width=32))
    (tmp_path / "train.txt").write_text("".join(f"jump/v{number}.mp4 0\n" for number in range(30)))
    prepare(tmp_path / "raw", tmp_path, tmp_path / "out", frames=FrameFormat(16), num_workers=1)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "jump/v" in line]
    assert line.startswith("listed videos without a raw file or frames, left out: 29 (jump/v1, ")
    assert line.count("jump/") == 5 and "and 24 more); all names are in " in line
    assert len(json.loads((tmp_path / "out/annotations/left_out.json").read_text())) == 29


def test_one_raw_file_for_two_listed_clips_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("twice", "once"):
        write_video(tmp_path / f"raw/{name}.mp4", moving_square(num_frames=3, height=24, width=32))
    rows = "tying,twice,1,11,train\npetting,twice,40,50,train\ntying,once,1,11,train\n"
    (tmp_path / "train.csv").write_text(f"label,youtube_id,time_start,time_end,split\n{rows}")
    names, out = ["petting/twice_000040_000050", "tying/twice_000001_000011"], tmp_path / "out"
    for name in names:  # of an earlier version
        (out / f"zips/{name}.zip").parent.mkdir(parents=True)
        (out / f"zips/{name}.zip").touch()
    prepare_main([f"--raw_dir={tmp_path / 'raw'}", f"--ann_dir={tmp_path}", f"--out_dir={out}", "--num_workers=1"])
    assert read_annotations(out / "annotations/train_split_1.json") == [Annotation("tying/once_000001_000011", 1)]
    assert json.loads((out / "annotations/left_out.json").read_text()) == names
    report, printed = json.loads((out / "zips/extract_report.json").read_text()), capsys.readouterr().out
    assert sorted(report["doubtful"]) == names and not report["missing"]
    assert "2 videos have no file or name of their own: " in printed and all(name in printed for name in names)


def test_nothing_but_doubtful_videos_is_an_error_that_says_why(tmp_path: Path) -> None:
    write_video(tmp_path / "raw/v.mp4", moving_square(num_frames=3, height=24, width=32))
    (tmp_path / "train.txt").write_text("jump/v.mp4 0\nrun/v.mp4 1\n")
    with pytest.raises(ValueError, match=r"None of the 2 .* \(jump/v: its file .*v\.mp4 is that of run/v too\)"):
        prepare(tmp_path / "raw", tmp_path, tmp_path / "out", frames=FrameFormat(16), num_workers=1)

from pathlib import Path

import pytest

from data_tools.raw_videos import find_raw_videos, match_to_names, name_by_path


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize("layout", ["{cls}/{stem}.avi", "{stem}.mp4", "UCF-101/{cls}/{stem}.MKV"])
def test_nested_and_flat_folders_match_by_stem(tmp_path: Path, layout: str) -> None:
    names = ["Archery/v_Archery_g01_c01", "Surfing/v_Surfing_g01_c01"]
    files = [layout.format(cls=name.split("/")[0], stem=name.split("/")[1]) for name in names]
    paths = find_raw_videos(make(tmp_path, *files, "readme.txt", "._v_Archery_g01_c01.avi"))
    found, missing, _ = match_to_names(paths, [*names, "Surfing/v_Surfing_g01_c02"], tmp_path)
    assert found == {name: tmp_path / file for name, file in zip(names, files, strict=True)}
    assert missing == ["Surfing/v_Surfing_g01_c02"]


def test_the_two_spellings_of_handstand_pushups(tmp_path: Path) -> None:
    make(tmp_path, "HandStandPushups/v_HandstandPushups_g01_c01.avi")
    name = "HandstandPushups/v_HandStandPushups_g01_c01"
    found, missing, _ = match_to_names(find_raw_videos(tmp_path), [name], tmp_path)
    assert list(found) == [name] and not missing


def test_of_one_stem_the_file_in_the_class_folder_is_taken(tmp_path: Path) -> None:
    make(tmp_path, "wave/clip.avi", "Kick/clip.avi", "kick/CLIP.avi")
    found, *_ = match_to_names(find_raw_videos(tmp_path), ["wave/clip", "kick/clip", "kick/CLIP"], tmp_path)
    assert found["wave/clip"] == tmp_path / "wave/clip.avi"
    assert found["kick/clip"] == tmp_path / "Kick/clip.avi"
    assert found["kick/CLIP"] == tmp_path / "kick/CLIP.avi"


def test_two_files_that_fit_equally_well_are_an_error(tmp_path: Path) -> None:
    paths = find_raw_videos(make(tmp_path, "wave/clip.avi", "wave/clip.mp4"))
    with pytest.raises(ValueError, match=r"clip\.avi and .*clip\.mp4 both fit wave/clip"):
        match_to_names(paths, ["wave/clip"], tmp_path)
    assert set(name_by_path(paths, tmp_path).found) == {"wave/clip.avi", "wave/clip.mp4"}
    assert match_to_names(paths, ["wave/other"], tmp_path).missing == ["wave/other"], (
        "it does not matter for unlisted videos"
    )


def test_names_without_lists(tmp_path: Path) -> None:
    paths = find_raw_videos(make(tmp_path, "ann/wave/a.avi", "bob/wave/a.avi", "b.mpg"))
    assert name_by_path(paths, tmp_path).found == {
        "b": tmp_path / "b.mpg",
        "ann/wave/a": tmp_path / "ann/wave/a.avi",
        "bob/wave/a": tmp_path / "bob/wave/a.avi",
    }


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No video in"):
        find_raw_videos(make(tmp_path, "notes.txt"))
    with pytest.raises(ValueError, match="No folder"):
        find_raw_videos(tmp_path / "nowhere")


def test_kinetics_clips_under_the_names_of_the_usual_downloaders(tmp_path: Path) -> None:
    make(tmp_path, "tai chi/a_b_000001_000011.mp4", "-Cd_.mkv", "tai_chi/both.mp4", "tai_chi/both_000005_000015.webm")
    make(tmp_path, "other/twice.mp4", "tai chi/twice.mp4", "tai_chi/upper.mp4")
    names = ["a_b_000001_000011", "-Cd__000000_000010", "both_000005_000015", "twice_000000_000010"]
    listed = [f"tai_chi/{name}" for name in (*names, "Upper_000000_000010")]
    found, missing, _ = match_to_names(find_raw_videos(tmp_path), listed, tmp_path)
    files = ["tai chi/a_b_000001_000011.mp4", "-Cd_.mkv", "tai_chi/both_000005_000015.webm", "tai chi/twice.mp4"]
    assert found == {f"tai_chi/{name}": tmp_path / file for name, file in zip(names, files, strict=True)}
    assert missing == ["tai_chi/Upper_000000_000010"], "YouTube tells ids apart by their case"


def matched(raw_dir: Path, *names: str) -> dict[str, str]:
    """Names of the listed videos that get a file, and the file below `raw_dir`."""
    match = match_to_names(find_raw_videos(raw_dir), names, raw_dir)
    assert {*match.found, *match.missing, *match.doubtful} == {*names}
    return {name: path.relative_to(raw_dir).as_posix() for name, path in match.found.items()}


@pytest.mark.parametrize("above", ["", "train/", "UCF-101/videos/"])
def test_a_missing_video_never_gets_the_file_of_another_class(tmp_path: Path, above: str) -> None:
    make(tmp_path, *(f"{above}{name}.mp4" for name in ("jump/001", "jump/002", "Run/002", "walk/001", "sit/001")))
    names = ("jump/001", "run/001", "jump/002", "run/002", "walk/001")  # sit is in no list
    found = {"jump/001": "jump/001", "jump/002": "jump/002", "run/002": "Run/002", "walk/001": "walk/001"}
    assert matched(tmp_path, *names) == {name: f"{above}{file}.mp4" for name, file in found.items()}


def test_a_class_that_is_not_listed_is_told_by_its_neighbours(tmp_path: Path) -> None:
    make(tmp_path, "jump/a.mp4", "walk/001.mp4", "walk/more/002.mp4", "003.mp4")
    assert matched(tmp_path, "jump/a", "run/001", "run/002", "run/003") == {
        "jump/a": "jump/a.mp4",
        "run/003": "003.mp4",
    }


def test_a_clip_of_kinetics_may_lie_in_an_unlisted_folder_but_not_in_that_of_another_class(tmp_path: Path) -> None:
    make(tmp_path, "tai chi/a_000000_000010.mp4", "new/b_000000_000010.mp4", "new/c.mp4", "zumba/d.mp4")
    names = [f"{name}_000000_000010" for name in ("tai_chi/a", "zumba/b", "zumba/c", "tai_chi/d")]
    assert sorted(matched(tmp_path, *names)) == ["tai_chi/a_000000_000010", *names[1:3]]


def test_folders_of_classes_may_be_spelled_in_other_ways(tmp_path: Path) -> None:
    make(tmp_path, "Apply Eye-Makeup/1.avi", "c++/1.avi", "c#/1.avi", "C#/2.avi")
    names = ("ApplyEyeMakeup/1", "c++/1", "c#/1", "c++/2", "c#/2")
    files = ("Apply Eye-Makeup/1.avi", "c++/1.avi", "c#/1.avi", "C#/2.avi")
    assert matched(tmp_path, *names) == dict(zip((*names[:3], names[4]), files, strict=True))


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["001.mp4"], ["jump/001", "run/001"]),
        (["part1/001.mp4"], ["jump/001", "run/001"]),
        (["id.mp4"], ["jump/id_000000_000010", "run/id_000040_000050"]),
        (["id.mp4"], ["jump/id_000000_000010", "jump/id_000040_000050"]),
        (["jump/id.mp4"], ["jump/id_000000_000010", "jump/id_000040_000050"]),
        (["aB.mp4"], ["jump/AB", "jump/ab"]),
        (["jump/id_000000_000010.mp4", "run/id_000000_000010.mp4"], ["jump/id_000000_000010", "run/id_000000_000010"]),
    ],
)
def test_two_names_for_one_video_get_none_and_are_named(tmp_path: Path, files: list[str], names: list[str]) -> None:
    make(tmp_path, *files, "other.mp4")
    match = match_to_names(find_raw_videos(tmp_path), [*names, "jump/other"], tmp_path)
    assert list(match.found) == ["jump/other"] and not match.missing
    assert list(match.doubtful) == names
    assert names[1] in match.doubtful[names[0]] and names[0] in match.doubtful[names[1]]


def test_a_name_that_agrees_in_case_keeps_the_file(tmp_path: Path) -> None:
    match = match_to_names(find_raw_videos(make(tmp_path, "clip.avi")), ["kick/CLIP", "kick/clip"], tmp_path)
    assert match.found == {"kick/clip": tmp_path / "clip.avi"}
    assert match.doubtful == {"kick/CLIP": f"its file {tmp_path / 'clip.avi'} is that of kick/clip too"}


def test_two_links_to_one_file_are_one_video(tmp_path: Path) -> None:
    make(tmp_path, "jump/a.mp4", "jump/c.mp4", "run/d.mp4")
    (tmp_path / "run/b.mp4").hardlink_to(tmp_path / "jump/a.mp4")
    (tmp_path / "run/c.mp4").symlink_to(tmp_path / "jump/c.mp4")
    names = ("jump/a", "run/b", "jump/c", "run/c", "run/d")
    match = match_to_names(find_raw_videos(tmp_path), names, tmp_path)
    assert list(match.found) == ["run/d"] and list(match.doubtful) == list(names[:4])


def test_links_within_a_class_keep_their_names(tmp_path: Path) -> None:
    make(tmp_path, "jump/a.mp4", "jump/id.mp4")
    (tmp_path / "jump/b.mp4").hardlink_to(tmp_path / "jump/a.mp4")
    (tmp_path / "jump/C.mp4").hardlink_to(tmp_path / "jump/a.mp4")
    match = match_to_names(find_raw_videos(tmp_path), ("jump/a", "jump/b", "jump/c"), tmp_path)
    assert match.found == {f"jump/{stem}": tmp_path / f"jump/{stem}.mp4" for stem in "ab"}
    assert list(match.doubtful) == ["jump/c"]


def test_a_raw_file_whose_name_no_data_set_can_hold_is_named(tmp_path: Path) -> None:
    paths = find_raw_videos(make(tmp_path, "wave/a\nb.avi", f"wave/{'n' * 246}.avi", "wave/c.avi"))
    match = name_by_path(paths, tmp_path)
    assert list(match.found) == ["wave/c"], "a name costs its own video alone"
    reasons = " ".join(match.doubtful.values())
    assert r"the name 'wave/a\nb' holds a control character" in reasons and "is too long" in reasons


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["walk/001.mp4"], ["jump/001"]),
        (["a/walk/001.mp4", "b/jump/002.mp4"], ["jump/001"]),
        (["walk/001.mp4", "sit/002.mp4"], ["jump/001", "run/002"]),
        (["jump/a.mp4", "more/walk/002.mp4"], ["jump/002"]),
    ],
)
def test_a_folder_of_another_name_is_that_of_another_class(tmp_path: Path, files: list[str], names: list[str]) -> None:
    paths = find_raw_videos(make(tmp_path, *files))
    assert match_to_names(paths, [*names, "jump/nowhere"], tmp_path) == ({}, [*names, "jump/nowhere"], {})


@pytest.mark.parametrize(
    "files",
    [
        ["jump/001.mp4", "002.mp4"],
        ["clips/001.mp4", "clips/002.mp4"],
        ["train/001.mp4", "Val/002.mp4"],
        ["all/clips/train/001.mp4", "all/clips/test/002.mp4"],
        ["train/jump/001.mp4", "train/002.mp4"],
    ],
)
def test_folders_that_hold_several_classes_are_of_none(tmp_path: Path, files: list[str]) -> None:
    found = matched(make(tmp_path, *files), "jump/001", "run/002", "run/003")
    assert found == dict(zip(("jump/001", "run/002"), files, strict=True))


def test_letters_of_a_disk_and_of_a_list_may_have_other_forms(tmp_path: Path) -> None:
    make(tmp_path, "gru\u0308n/e\u0301.mp4", "rot/E\u0301.mp4")
    names = ("gr\u00fcn/\u00e9", "rot/\u00c9")
    assert matched(tmp_path, *names) == {names[0]: "gru\u0308n/e\u0301.mp4", names[1]: "rot/E\u0301.mp4"}


def test_clips_of_kinetics_may_have_seconds_without_zeros_before_them(tmp_path: Path) -> None:
    make(tmp_path, "tai chi/-a_1_11.mp4", "tai chi/b_5.0_15.0.mp4", "tai chi/c_000001_000011.mp4", "tai chi/c_1_11.mp4")
    make(tmp_path, "zumba/d_1_11.mp4", "tai chi/E_1_11.mp4", "zumba/f_000001_000011.mp4")
    padded = ("-a_000001_000011", "b_000005_000015", "c_000001_000011", "d_000001_000011", "e_000001_000011")
    assert matched(tmp_path, *(f"tai_chi/{name}" for name in padded), "zumba/f_1_11") == {
        "tai_chi/-a_000001_000011": "tai chi/-a_1_11.mp4",
        "tai_chi/b_000005_000015": "tai chi/b_5.0_15.0.mp4",
        "tai_chi/c_000001_000011": "tai chi/c_000001_000011.mp4",
        "zumba/f_1_11": "zumba/f_000001_000011.mp4",
    }

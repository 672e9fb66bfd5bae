from pathlib import Path

import pytest

from data_tools.raw_videos import find_raw_videos, match_to_names, name_by_folder


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
    with pytest.raises(ValueError, match=r"clip\.avi and .*clip\.mp4 would both become wave/clip"):
        name_by_folder(paths, tmp_path)
    assert match_to_names(paths, ["wave/other"], tmp_path).missing == ["wave/other"], (
        "it does not matter for unlisted videos"
    )


def test_names_without_lists(tmp_path: Path) -> None:
    paths = find_raw_videos(make(tmp_path, "train/wave/a.avi", "b.mpg"))
    assert name_by_folder(paths, tmp_path) == {"b": tmp_path / "b.mpg", "wave/a": tmp_path / "train/wave/a.avi"}


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

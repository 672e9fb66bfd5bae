"""The tools as they are started: exit codes, messages, and the scripts/prepare_*.sh from raw videos to clients."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest

from data_tools.synthetic import SyntheticSet, write_dataset
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation, read_annotations
from fedvssl.data.media import find_media, picture_of_sample
from fedvssl.data.video import open_video
from tests.data_tools.cifar_archive import MadeUp
from tests.videos import moving_square, write_video

ROOT = Path(__file__).parents[2]
FRAMES = moving_square(num_frames=3, height=24, width=32)


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("module", "flags", "message"),
    [
        ("extract_frames", ("--raw_dir", "nowhere", "--out_dir", "out"), "error: No folder nowhere"),
        (
            "partition",
            ("--json_path", "nowhere.json", "--output_path", "out"),
            "error: No annotation file nowhere.json",
        ),
        ("synthetic", ("--num_classes", "99", "--out_dir", "out"), "error: num_classes=99"),
        ("prepare", ("--raw_dir", "nowhere", "--out_dir", "out"), "error: No folder nowhere"),
        ("prepare", ("--raw_dir", ".", "--ann_dir", "nowhere", "--out_dir", "out"), "error: No folder nowhere"),
    ],
)
def test_mistakes_end_in_one_sentence(tmp_path: Path, module: str, flags: tuple[str, ...], message: str) -> None:
    result = run(sys.executable, "-m", f"data_tools.{module}", *flags, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(message) and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_prepare_ucf101_script(tmp_path: Path) -> None:
    write_dataset(tmp_path / "own clips", SyntheticSet(2, 3, 1, width=48, height=32, num_frames=4))
    flags = ("--data_dir", str(tmp_path / "data"), "--name=own", "--num_clients", "3", "--short_side", "16")
    raw, lists = (str(tmp_path / "own clips" / name) for name in ("raw", "lists"))
    command = ("bash", str(ROOT / "scripts/prepare_ucf101.sh"), *flags, "--raw_dir", raw, "--ann_dir", lists)
    for kept in (0, 8):  # the second run finds everything there
        result = run(*command, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert f"{8 - kept} videos extracted, {kept} kept from before, 0 failed." in result.stdout
    annotations = tmp_path / "data/own/annotations"
    assert len(read_annotations(annotations / "test_split_1.json")) == 2
    clients = [read_annotations(annotations / f"client_distribution/client_dist{n}.json") for n in (1, 2, 3)]
    assert [len(client) for client in clients] == [2, 2, 2]
    assert all((tmp_path / f"data/own/zips/{a.name}.zip").is_file() for client in clients for a in client)


def write_tagged_video(path: Path) -> None:
    """A clip whose container has a title in Latin-1, as some of HMDB-51 have."""
    write_video(path, FRAMES, title="Bär")
    content = path.read_bytes()
    assert content.count("Bär".encode()) == 1
    path.write_bytes(content.replace("Bär".encode(), "Bär ".encode("latin-1")))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))


def test_prepare_hmdb51_script(tmp_path: Path) -> None:
    """All 51 lists, clips of two classes only, names and containers as odd as the real ones."""
    raw, lists = tmp_path / "hmdb51_org", tmp_path / "testTrainMulti_7030_splits"
    names = ["(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0", "A+B&C's_wave_f_cm_np1_fr_bad_1"]
    lists.mkdir()
    for number in range(51):
        (lists / f"class{number:02d}_test_split1.txt").write_text(f"clip{number}.avi 1 \nother{number}.avi 2 \n")
    (lists / "class40_test_split1.txt").write_text(f"{names[0]}.avi 1 \nunused.avi 0 \nthird.avi 2 \n")
    (lists / "class50_test_split2.txt").write_text("")
    (lists / "class50_test_split1.txt").write_text(f"{names[1]}.avi 1 \n")
    for folder, name in (("class40", names[0]), ("class50", names[1]), ("class40", "third"), ("class40", "unused")):
        write_tagged_video(raw / folder / f"{name}.avi")
    flags = ("--raw_dir", str(raw), "--ann_dir", str(lists), "--num_clients", "2", "--short_side", "16")
    result = run("bash", str(ROOT / "scripts/prepare_hmdb51.sh"), *flags, "--data_dir", str(tmp_path / "data"))
    assert result.returncode == 0, result.stderr
    annotations = tmp_path / "data/hmdb51/annotations"
    expected = [Annotation(f"class40/{names[0]}", 40), Annotation(f"class50/{names[1]}", 50)]
    assert read_annotations(annotations / "train_split_1.json") == expected
    assert read_annotations(annotations / "test_split_1.json") == [Annotation("class40/third", 40)]
    clients = [read_annotations(annotations / f"client_distribution/client_dist{n}.json") for n in (1, 2)]
    assert sorted(a.name for client in clients for a in client) == [a.name for a in expected]
    config = compose("finetune", ["experiment=finetune_hmdb51", f"data_dir={tmp_path / 'data'}"])["data"]
    assert Path(config["annotation_dir"]) == annotations and config["num_classes"] == 51
    assert all(len(open_video(find_media(Path(config["media_dir"]), a.name))) == len(FRAMES) for a in expected)


def test_prepare_kinetics400_script(tmp_path: Path) -> None:
    """A csv of three classes; half of its videos are there, under the names of two downloaders."""
    raw, lists = tmp_path / "videos", tmp_path / "lists"
    files = ["tai chi/id1_000010_000020.mp4", "archery/-d2.mkv", "id3.mp4", "val/zumba/id4.mp4"]
    for file in files:
        write_video(raw / file, FRAMES)
    header = "label,youtube_id,time_start,time_end,split\n"
    rows = ("tai chi,id1,10,20", "archery,-d2,0,10", "zumba,id3,5,15", "tai chi,gone1,0,10", "archery,gone2,0,10")
    lists.mkdir()
    (lists / "train.csv").write_text(header + "".join(f"{row},train\n" for row in rows))
    (lists / "val.csv").write_text(header + "zumba,id4,1,11,val\nzumba,gone3,1,11,val\n")
    script = ("bash", str(ROOT / "scripts/prepare_kinetics400.sh"), f"--data_dir={tmp_path / 'data'}")
    flags = ("--raw_dir", str(raw), "--ann_dir", str(lists), "--num_clients", "3", "--short_side", "16")
    result = run(*script, *flags, "--", "--method", "uniform")  # the default needs more videos of a class than this
    assert result.returncode == 0, result.stderr
    assert "listed videos without a raw file or frames, left out: 3 (" in result.stdout
    annotations = tmp_path / "data/kinetics400/annotations"
    gone = ["archery/gone2_000000_000010", "tai_chi/gone1_000000_000010", "zumba/gone3_000001_000011"]
    assert json.loads((annotations / "left_out.json").read_text()) == gone
    entries = json.loads((annotations / "train_split_1.json").read_text())
    names = ["tai_chi/id1_000010_000020", "archery/-d2_000000_000010", "zumba/id3_000005_000015"]
    assert entries == [{"name": name, "label": label} for name, label in zip(names, (2, 1, 3), strict=True)]
    assert read_annotations(annotations / "test_split_1.json") == [Annotation("zumba/id4_000001_000011", 2)]
    assert len(list((annotations / "client_distribution").glob("client_dist*.json"))) == 3
    config = compose("base", ["experiment=kinetics400", f"data_dir={tmp_path / 'data'}"])
    assert Path(config["partition_dir"]) == annotations / "client_distribution" and config["pool_size"] == 100
    assert all(find_media(Path(config["data"]["media_dir"]), name) for name in names)


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_prepare_cifar_scripts(tmp_path: Path, dataset: str) -> None:
    """The archive, by default divided into equal parts; then its pictures as class folders, divided by class."""
    made = MadeUp(hundred=dataset == "cifar100")
    script = ("bash", str(ROOT / f"scripts/prepare_{dataset}.sh"), "--data_dir", str(tmp_path / "data"))
    archive = made.write(tmp_path / "raw")
    number = sum(map(len, made.records.values()))
    for kept in (0, number):  # the second run finds everything there
        result = run(*script, "--raw_dir", str(archive), "--num_clients", "3", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert f"{number - kept} pictures stored, {kept} kept from before, 0 failed." in result.stdout
    out = tmp_path / "data" / dataset
    clients = [read_annotations(out / f"annotations/client_distribution/client_dist{n}.json") for n in (1, 2, 3)]
    train = read_annotations(out / "annotations/train_split_1.json")
    assert sorted((a for client in clients for a in client), key=lambda a: a.name) == train
    assert (
        len({len(client) for client in clients}) == 1
        and len(read_annotations(out / "annotations/test_split_1.json")) == 6
    )
    assert all(find_media(out / "pictures", a.name).is_file() for a in train)

    (tmp_path / "folders/train").parent.mkdir()
    shutil.copytree(out / "pictures", tmp_path / "folders/train", ignore=shutil.ignore_patterns("*.json"))
    flags = ("--raw_dir", str(tmp_path / "folders"), "--name=own", "--short_side=16", "--num_clients=3")
    result = run(*script, *flags, "--", "--method", "class", "--classes_per_client", "1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lists = tmp_path / "data/own/annotations/client_distribution"
    assert [len({a.label for a in read_annotations(lists / f"client_dist{n}.json")}) for n in (1, 2, 3)] == [1, 1, 1]
    own = read_annotations(lists / "client_dist1.json")[0].name
    assert picture_of_sample(tmp_path / "data/own/pictures", own).shape == (16, 16, 3)


def test_pictures_have_no_lists(tmp_path: Path) -> None:
    result = run("bash", "scripts/prepare_cifar10.sh", "--ann_dir", "lists", "--data_dir", str(tmp_path))
    assert result.returncode == 2 and result.stderr.startswith("error: --ann_dir is for videos")


@pytest.mark.parametrize("flags", [("--unknown", "1"), ("--num_clients",), ("--num_clients", "0")])
@pytest.mark.parametrize("dataset", ["ucf101", "hmdb51", "kinetics400", "cifar10", "cifar100"])
def test_prepare_scripts_refuse_nonsense(dataset: str, flags: tuple[str, ...]) -> None:
    result = run("bash", f"scripts/prepare_{dataset}.sh", *flags)
    assert result.returncode == 2 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    usage = run("bash", f"scripts/prepare_{dataset}.sh", "--help").stdout
    assert f"bash scripts/prepare_{dataset}.sh" in usage and "set -e" not in usage


def test_kinetics_needs_videos_and_lists() -> None:
    result = run("bash", "scripts/prepare_kinetics400.sh", "--ann_dir", "somewhere", "--data_dir", "/tmp/nowhere")
    assert result.returncode == 2 and "is not downloaded here" in result.stderr

"""The commands of the protocols: every kind of checkpoint, the tables and files, restarts, mistakes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data_tools.prepare import main as prepare
from fedvssl import evaluate as command
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation, read_annotations, write_annotations
from fedvssl.data.split import Split
from fedvssl.evaluation import calibration, features, rows
from fedvssl.evaluation.intervals import in_percent, wilson
from fedvssl.files.arrays import load_arrays
from fedvssl.files.atomic import write_json
from fedvssl.files.tensors import save_torch, to_arrays
from fedvssl.models.r3d import R3D
from tests.action_set import TINY_TEST, write_action_set
from tests.videos import moving_square, write_video

PROTOCOLS = {
    "retrieval": ["R@1", "R@5", "R@10", "R@20", "R@50"],
    "knn": ["k=1", "k=5", "k=20", "k=200"],
    "linear_probe": ["top1_acc", "top5_acc", "mean_class_acc"],
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_action_set(tmp_path_factory.mktemp("data"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    state = {f"backbone.{name}": tensor for name, tensor in R3D(10, width=4).state_dict().items()}
    save_torch(tmp_path / "run/model_pretrained.pth", state)
    return tmp_path / "run/model_pretrained.pth"


def arguments(data_dir: Path, checkpoint: object, *more: str) -> list[str]:
    return [*TINY_TEST, f"data_dir={data_dir}", f"checkpoint={checkpoint}", *more]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_writes_the_table_and_its_files(protocol, data_dir, checkpoint, capsys):
    assert command.main(protocol, arguments(data_dir, checkpoint)) == 0
    folder = checkpoint.parent / "evaluation/model_pretrained-ucf101-split1"
    report = json.loads((folder / f"{protocol}.json").read_text())
    assert list(report["rows"]) == list(report["intervals"]) == ["checkpoint", "random", "random initial", "mean frame"]
    counted = [name for name in PROTOCOLS[protocol] if name != "mean_class_acc"]
    assert list(report["differences"]) == list(report["differences_initial"]) == counted
    for metrics in report["rows"].values():
        assert list(metrics) == PROTOCOLS[protocol] and all(0 <= value <= 1 for value in metrics.values())
    assert (report["num_train"], report["num_test"], report["num_clips"]) == (6, 11, 2)
    assert (folder / f"{protocol}.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    for row, metrics in report["rows"].items():
        line = next(line for line in shown.splitlines() if re.match(rf"{row} +\d", line))
        intervals = report["intervals"][row]
        assert intervals == {name: pytest.approx(wilson(metrics[name], 11)) for name in report["differences"]}
        expected = " ".join(in_percent(value, intervals.get(name)) for name, value in metrics.items())
        assert line.removeprefix(row).split() == expected.split()
    for kind, baseline in (("differences", "random"), ("differences_initial", "random initial")):
        for name, difference in report[kind].items():
            assert f"\n{name}: checkpoint - {baseline} {100 * difference['difference']:+.1f} [" in shown
            rows = report["rows"]
            assert difference["difference"] == pytest.approx(rows["checkpoint"][name] - rows[baseline][name])
            assert difference["low"] <= difference["difference"] <= difference["high"]


def test_several_protocols_run_one_after_another_in_one_process(data_dir, checkpoint, capsys):
    assert command.main(argv=["retrieval", "knn", *arguments(data_dir, checkpoint)]) == 0
    folder = checkpoint.parent / "evaluation/model_pretrained-ucf101-split1"
    assert {path.stem for path in folder.glob("*.json")} == {"retrieval", "knn"}
    shown = capsys.readouterr().out.splitlines()
    assert shown.index("retrieval") < shown.index("knn")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["retrieval", "knnn"], "No configuration 'knnn'"),
        (["retrieval", "knn", "devices=2"], "Several protocols in one command need devices=1"),
    ],
)
def test_a_mistake_in_one_of_several_protocols_stops_all(words, sentence, data_dir, checkpoint, capsys):
    assert command.main(argv=[*words[:2], *arguments(data_dir, checkpoint), *words[2:]]) == 2
    assert sentence in capsys.readouterr().err
    assert not (checkpoint.parent / "evaluation").exists()


def test_protocols_share_the_features_and_a_repeated_command_computes_none(data_dir, checkpoint, tmp_path, monkeypatch):
    kept = f"feature_dir={tmp_path / 'kept'}"
    assert command.main("knn", arguments(data_dir, checkpoint, kept)) == 0
    assert len(list((tmp_path / "kept").rglob("videos-*.npz"))) == 8  # four rows, two lists
    assert len(list((tmp_path / "kept").rglob("statistics.npz"))) == 1  # of the random backbone
    monkeypatch.setattr(features, "clip_maps", None)
    monkeypatch.setattr(calibration, "clip_maps", None)
    assert command.main("retrieval", arguments(data_dir, checkpoint, kept)) == 0
    assert command.main("linear_probe", arguments(data_dir, checkpoint, kept, "protocol.epochs=2")) == 0


def test_the_random_row_alone_and_that_of_a_table_agree(data_dir, checkpoint, tmp_path):
    work_dir = f"work_dir={tmp_path / 'alone'}"
    assert command.main("knn", arguments(data_dir, "random", work_dir)) == 0
    assert command.main("knn", arguments(data_dir, checkpoint)) == 0
    alone = json.loads((tmp_path / "alone/knn.json").read_text())
    beside = next(checkpoint.parent.rglob("knn.json")).read_text()
    assert list(alone["rows"]) == ["random", "random initial", "mean frame"]
    assert alone["differences"] == alone["differences_initial"] == {}
    assert alone["rows"] == {name: json.loads(beside)["rows"][name] for name in alone["rows"]}


def test_evaluations_at_other_settings_never_overwrite_each_other(data_dir, checkpoint, tmp_path, capsys):
    def knn(*more: str) -> int:
        return command.main("knn", arguments(data_dir, checkpoint, f"feature_dir={tmp_path / 'kept'}", *more))

    usual = checkpoint.parent / "evaluation/model_pretrained-ucf101-split1"
    assert knn("protocol.ks=[1]") == 0
    first = (usual / "knn.json").read_bytes()
    assert knn("protocol.ks=[1,2]") == 0 and (usual / "knn.json").read_bytes() == first
    assert f"{usual}-2/knn.json and .png" in capsys.readouterr().out
    assert knn("protocol.ks=[1,2]", "seed=8") == 0 and knn("protocol.ks=[1]") == 0
    assert sorted(path.name for path in usual.parent.iterdir()) == [f"{usual.name}{end}" for end in ("", "-2", "-3")]
    found = [json.loads((usual.with_name(f"{usual.name}{end}") / "knn.json").read_text()) for end in ("", "-2", "-3")]
    assert [(report["seed"], report["settings"]["protocol"]["ks"]) for report in found] == [
        *((7, [1]), (7, [1, 2]), (8, [1, 2])),
    ]
    assert [found[0][name] for name in ("clip_len", "frame_stride", "size", "crop_size")] == [8, 2, [43, 32], 32]
    named = f"work_dir={tmp_path / 'named'}"
    assert knn(named, "protocol.ks=[1]") == 0 and knn(named, "protocol.ks=[1]") == 0
    assert knn(named, "protocol.ks=[2]") == 2
    assert (
        "named/knn.json is a result of other settings (protocol.ks was [1] and is [2] now)" in capsys.readouterr().err
    )


def test_what_decides_the_place_of_a_result(data_dir, checkpoint):
    """Also other lists of the same length, other files of the same names, and another model as the random row."""
    config = compose("knn", arguments(data_dir, checkpoint))
    usual = {"data": Split.of(config["data"]), "checkpoint": str(checkpoint)}
    reports = [{**report_of(config), "lists": name} for name in "ab"]
    reports += [{**report_of(config), "media": "other"}, {**report_of(config), "part": "validation"}]
    reports += [
        report_of(compose("knn", arguments(data_dir, checkpoint, more))) for more in ("model.width=8", "seed=9")
    ]
    places = []
    for report in (*reports, *reports):
        folder = command.result_folder(None, "knn", report, **usual)
        path = command.from_here(checkpoint, folder)
        write_json(folder / "knn.json", {**report, "checkpoint_from_here": path})
        places.append(folder.name[-2:])
    assert places == ["t1", "-2", "-3", "-4", "-5", "-6"] * 2


def report_of(config: dict) -> dict:
    facts = {"dataset": "ucf101", "split": 1, "num_train": 6, "num_test": 11, "part": "test", "lists": "l"}
    settings = {**{name: config[name] for name in ("protocol", "test_sample", "model")}, "precision": "32-true"}
    return {**facts, **command.settings_facts(settings, {}, checkpoint=config["checkpoint"], seed=config["seed"])}


def test_queries_whose_class_has_one_training_video_are_counted(data_dir, checkpoint, tmp_path, capsys):
    videos = {
        part: read_annotations(data_dir / f"ucf101/annotations/{part}_split_1.json") for part in ("train", "test")
    }
    write_annotations(tmp_path / "train_split_1.json", videos["train"][:4])  # classes 0 1 2 0
    write_annotations(tmp_path / "test_split_1.json", videos["test"][:5])  # classes 0 1 2 0 1
    words = arguments(data_dir, checkpoint, f"data.annotation_dir={tmp_path}", f"work_dir={tmp_path}")
    assert command.main("retrieval", words) == 0
    report = json.loads((tmp_path / "retrieval.json").read_text())
    assert (report["single_video_classes"], report["single_video_queries"]) == (2, 3)
    assert "2 classes with 3 of these videos have one training video each" in capsys.readouterr().out


def test_the_random_backbone_has_statistics_of_the_training_videos(data_dir, tmp_path, monkeypatch):
    words = arguments(data_dir, "random", f"feature_dir={tmp_path}", f"work_dir={tmp_path}")
    backbones = {}
    extracted = rows.extract_kept

    def keep(extraction, backbone, dataset, *, label):
        backbones[label] = backbone
        return extracted(extraction, backbone, dataset, label=label)

    monkeypatch.setattr(rows, "extract_kept", keep)
    assert command.main("knn", words) == 0
    (path,) = tmp_path.rglob("statistics.npz")
    statistics = load_arrays(path)
    own = to_arrays(backbones["random: test video"])
    assert all((own[name] == array).all() for name, array in statistics.items())
    assert statistics["stem.bn.running_mean"].any() and statistics["stem.bn.num_batches_tracked"] == 2
    again = arguments(data_dir, "random", f"feature_dir={tmp_path / 'b'}", f"work_dir={tmp_path}", "test_batch_size=5")
    assert command.main("knn", again) == 0
    (other,) = (tmp_path / "b").rglob("statistics.npz")
    assert path.parent.name == other.parent.name and path.read_bytes() == other.read_bytes(), "batch size is no setting"


def test_a_protocol_of_ones_own_needs_one_yaml_and_one_file(data_dir, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "nearest_mean.py").write_text(
        "from fedvssl.evaluation.protocol import Result\n"
        "class Share:\n"
        "    def __call__(self, train, test):\n"
        "        return Result({'share': float((test.labels == 0).double().mean())})\n"
        "    def draw(self, png, results, train, test, frame):\n"
        "        png.write_text(str(frame(test.names[0]).shape))\n"
    )
    (tmp_path / "mine.v2.yaml").write_text(
        "defaults: [{data: ucf101}, {model: r3d18}, {recognition: published}, {evaluation: published}, _self_]\n"
        "protocol: {_target_: nearest_mean.Share}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert command.main(None, [str(tmp_path / "mine.v2.yaml"), *arguments(data_dir, checkpoint)]) == 0
    folder = checkpoint.parent / "evaluation/model_pretrained-ucf101-split1"
    assert json.loads((folder / "mine.v2.json").read_text())["rows"]["random"] == {"share": pytest.approx(4 / 11)}
    assert (folder / "mine.v2.png").read_text() == "(36, 48, 3)"


def test_help(capsys):
    assert command.main("knn", ["--help"]) == 0
    assert "python -m fedvssl.knn" in capsys.readouterr().out


def faulty_lists(folder: Path) -> str:
    """Lists whose test part has a class that the training part lacks."""
    write_annotations(folder / "train_split_1.json", [Annotation("Climb/train0", 0)])
    write_annotations(folder / "test_split_1.json", [Annotation("Climb/test0", 0), Annotation("Run/test1", 1)])
    return f"data.annotation_dir={folder}"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["checkpoint=null"], "Name the backbone with checkpoint=<file>"),
        (["checkpoint=/nowhere/round-1-weights.npz"], "No file /nowhere/round-1-weights.npz"),
        (["model.width=8"], "is [4, 3, 3, 7, 7] in"),
        (["data.num_classes=2"], "has labels up to 3, but data.num_classes is 2"),
        (["data.split=2"], "No annotation file"),
        (["data.split=2", "data.num_classes=auto"], "No annotation file"),
        (["protocol.ks=[0]"], "protocol.ks=[0] must be a list, each entry a whole number, at least 1"),
        (["no_such_key=1"], "no_such_key"),
        (["test_batch_size=0"], "test_batch_size=0 must be a whole number, at least 1"),
    ],
)
def test_mistakes_are_one_sentence(more, sentence, data_dir, checkpoint, capsys):
    assert command.main("retrieval", arguments(data_dir, checkpoint, *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and sentence in error


def test_a_gallery_without_a_class_of_the_queries_is_refused(data_dir, checkpoint, tmp_path, capsys):
    assert command.main("retrieval", arguments(data_dir, checkpoint, faulty_lists(tmp_path / "lists"))) == 2
    assert "has no video of class Run (label 2), which 1 test videos such as Run/test1 need" in capsys.readouterr().err


def test_an_empty_split_is_refused(data_dir, checkpoint, tmp_path, capsys):
    lists = faulty_lists(tmp_path / "lists")
    (tmp_path / "lists/test_split_1.json").write_text("[]")
    assert command.main("retrieval", arguments(data_dir, checkpoint, lists)) == 2
    assert "holds no list of videos" in capsys.readouterr().err


def test_two_processes_share_the_videos(data_dir, checkpoint, tmp_path):
    def judge(devices: int) -> dict:
        folder = tmp_path / str(devices)
        words = arguments(data_dir, checkpoint, f"devices={devices}", f"work_dir={folder}", f"feature_dir={folder}")
        command_line = [sys.executable, "-m", "fedvssl.knn", *words]
        done = subprocess.run(command_line, capture_output=True, text=True, check=True, timeout=550)
        assert done.stdout.count("  k=200") == 1  # one table
        assert len(list(folder.rglob("statistics.npz"))) == 1 and len(list(folder.rglob("videos-*.npz"))) == 8
        return json.loads((folder / "knn.json").read_text())["rows"]

    assert judge(2) == judge(1)


def test_hmdb51_from_its_lists_to_the_tables(checkpoint, tmp_path):
    """A set of its shape: a list for each class with 1 train, 2 test, 0 unused, and names that shells and URLs hate."""
    for label, name in enumerate(("wave", "cartwheel")):
        uses = {f"({name}) + {number}!_r_cm_np1.avi": use for number, use in enumerate((1, 1, 2, 0))}
        for number, stem in enumerate(uses):
            frames = moving_square(num_frames=12, height=36, width=48, seed=10 * label + number)
            write_video(tmp_path / "raw" / name / stem, frames)
        (tmp_path / "lists").mkdir(exist_ok=True)
        text = "".join(f"{stem} {use} \n" for stem, use in uses.items())
        (tmp_path / f"lists/{name}_test_split1.txt").write_text(text)
    out = tmp_path / "data/hmdb51"
    folders = ["--raw_dir", str(tmp_path / "raw"), "--ann_dir", str(tmp_path / "lists"), "--out_dir", str(out)]
    prepare([*folders, "--short_side", "0", "--num_workers", "1"])
    hmdb = ["data=hmdb51", "data.num_classes=2", "protocol.epochs=2"]
    for protocol, names in PROTOCOLS.items():
        words = [word for word in TINY_TEST if word != "data.num_classes=3"]
        more = hmdb if protocol == "linear_probe" else hmdb[:2]
        assert command.main(protocol, [*words, f"data_dir={tmp_path / 'data'}", f"checkpoint={checkpoint}", *more]) == 0
        folder = checkpoint.parent / "evaluation/model_pretrained-hmdb51-split1"
        report = json.loads((folder / f"{protocol}.json").read_text())
        assert (report["dataset"], report["num_train"], report["num_test"]) == ("hmdb51", 4, 2)
        assert list(report["rows"]["checkpoint"]) == names
    retrieved = json.loads((folder / "retrieval.json").read_text())["rows"]["checkpoint"]
    assert retrieved["R@5"] == 1.0  # the gallery has four videos

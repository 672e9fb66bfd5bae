"""Pictures through all commands: pre-training, evaluation, fine-tuning, test; and what does not fit is told early."""

import html
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from data_tools.partition import main as partition
from fedvssl import conversion, evaluate, export, finetune, main, report
from fedvssl import test as test_command
from fedvssl.config import compose, read_command_line
from fedvssl.files.run_log import read_records
from fedvssl.files.tensors import save_torch
from fedvssl.models.resnet import ResNet
from tests.picture_set import DATA, MODEL, PRETRAINING, TINY, write_picture_set, write_video_set

R3D = ["model=r3d18", "model.depth=10", "model.width=4"]
RESNET = [*MODEL]
QUICK = [*DATA, "num_workers=0", "device=cpu", "precision=32-true", "crop_size=16"]
PICTURES = [*QUICK, "input=pictures"]
CLIPS = [*QUICK, "clip_len=4", "test_sample.size=[20,16]", "test_sample.num_clips=1"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_picture_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video_set(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def run_dir(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one round with an evaluation before and after it."""
    folder = tmp_path_factory.mktemp("run")
    main.run(compose("base", [*PRETRAINING, f"data_dir={data_dir}", "eval.every=1"]), run_dir=folder)
    return folder


def places(data_dir: Path, run_dir: Path) -> list[str]:
    return [f"data_dir={data_dir}", f"checkpoint={run_dir / 'round-1-weights.npz'}"]


def test_the_server_evaluates_between_the_rounds(run_dir: Path) -> None:
    evaluated = [record for record in read_records(run_dir / "metrics.jsonl") if "eval_R@1" in record]
    assert [record["server_round"] for record in evaluated] == [0, 1]
    assert all("eval_knn_top1_acc" in record and "eval_motion_probe" not in record for record in evaluated)


def test_protocols_have_the_rows_of_pictures_and_say_nothing_of_clips(data_dir, run_dir, capsys) -> None:
    words = ["retrieval", "knn", "linear_probe", *TINY, *places(data_dir, run_dir)]
    assert evaluate.main(argv=words) == 0
    shown = capsys.readouterr().out
    assert "24 test pictures and 36 training pictures of cifar10 split 1, 16 pixels;" in shown
    assert "checkpoint: train picture 36/36" in shown and "video" not in shown
    for protocol in words[:3]:
        result = json.loads((run_dir / f"evaluation/round-1-weights-cifar10-split1/{protocol}.json").read_text())
        assert list(result["rows"]) == ["checkpoint", "random", "random initial", "pixels"]
        assert result["medium"] == "picture"
        assert not {"num_clips", "clip_len", "frame_stride", "size"} & result.keys() and result["crop_size"] == 16
        first = next(iter(result["rows"]["pixels"].values()))
        assert first > 0.6, "the colour is the class, and chance is a third"


def test_recipes_of_one_protocol_are_told_apart_wherever_they_are_shown(data_dir, run_dir, tmp_path, capsys) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    place = [*TINY, *places(data_dir, tmp_path / "run")]
    own = "AdamProbe, hidden_channels null, epochs 1, batch_size 512, lr 0.0003, reshuffle true, held_out false"
    assert evaluate.main("linear_probe", [*place, "probe=fedsimclr", "protocol.epochs=1"]) == 0
    assert f"linear_probe ({own})\n" in capsys.readouterr().out
    assert evaluate.main("knn", place) == 0 and "\nknn\n" in capsys.readouterr().out
    assert evaluate.main("knn", [*place, "protocol.temperature=0.5"]) == 0
    assert "knn (temperature 0.5)\n" in capsys.readouterr().out
    assert report.main([str(tmp_path / "run"), "--output", str(tmp_path / "page.html")]) == 0
    page = html.unescape((tmp_path / "page.html").read_text())
    assert all(page.count(f"({words})") == 3 for words in (own, "temperature 0.5")), "caption, picture and its title"
    out = [f"out_dir={tmp_path / 'out'}", "formats=[safetensors]", "input=pictures", "crop_size=16"]
    assert export.main([*MODEL, place[-1], *out]) == 0
    card = (tmp_path / "out/README.md").read_text()
    titles = "knn on cifar10", "knn (temperature 0.5) on cifar10", f"linear_probe ({own}) on cifar10"
    assert all(title in card for title in titles)


def test_fine_tuning_learns_the_colours_and_the_test_reads_it(data_dir, run_dir, tmp_path, capsys) -> None:
    pretrained = tmp_path / "model_pretrained.pth"
    conversion.convert(run_dir / "round-1-weights.npz", pretrained)
    recipe = ["training.epochs=6", "training.batch_size=12", "training.steps=[]", "training.lr=0.05"]
    words = [*TINY, f"data_dir={data_dir}", f"work_dir={tmp_path / 'tuned'}"]
    assert finetune.main(["finetune", *words, *recipe, f"pretrained={pretrained}", "training.eval_every=null"]) == 0
    records = read_records(tmp_path / "tuned/metrics.jsonl", position="epoch")
    assert records[-1]["loss"] < 0.7 * records[0]["loss"]
    assert test_command.main(["test", *words]) == 0
    result = json.loads((tmp_path / "tuned/test.json").read_text())
    assert result["top1_acc"] > 0.6 and result["medium"] == "picture" and "num_clips" not in result
    shown = capsys.readouterr().out
    assert "24 test pictures of cifar10 split 1, 16 pixels;" in shown
    assert "  test picture 24/24" in shown and "\npicture 24/24" in shown and "video" not in shown


def test_fine_tuning_on_a_list_of_ones_own_says_so_wherever_it_is_shown(data_dir, run_dir, tmp_path, capsys) -> None:
    lists, work_dir = data_dir / "cifar10/annotations", tmp_path / "tuned"
    shutil.copy(lists / "client_distribution/client_dist1.json", tmp_path / "few.json")
    words = [*TINY, f"data_dir={data_dir}", f"work_dir={work_dir}"]
    recipe = [
        "from_scratch=true",
        "training.epochs=1",
        "training.batch_size=9",
        f"data.train_list={tmp_path / 'few.json'}",
    ]
    assert finetune.main(["finetune", *words, *recipe, "labels_per_class=5"]) == 0
    assert test_command.main(["test", *words]) == 0
    told = ", 5 labelled pictures of each class, 15 training pictures of few.json"
    assert f"last.pth, epoch 1{told}" in capsys.readouterr().out
    assert json.loads((work_dir / "test.json").read_text())["training_samples"] == 15
    page, out = tmp_path / "page.html", [f"out_dir={tmp_path / 'out'}", "formats=[safetensors]", "input=pictures"]
    assert report.main([str(run_dir), "--include", str(work_dir), "--output", str(page)]) == 0
    assert f"tuned{told}" in page.read_text()
    assert export.main([*MODEL, f"checkpoint={work_dir / 'last.pth'}", "crop_size=16", *out]) == 0
    assert "15, those of few.json, at most 5 of each class" in (tmp_path / "out/README.md").read_text()


def test_few_labels_are_held_out_of_the_federation(data_dir, run_dir, tmp_path, capsys) -> None:
    lists = data_dir / "cifar10/annotations"
    words = ["--json_path", str(lists), "--output_path", str(tmp_path / "lists"), "--num_clients", "2"]
    partition([*words, "--method", "iid", "--labelled_share", "0.2"])
    few = [*TINY, f"data.train_list={tmp_path / 'lists/labelled.json'}", "protocol.epochs=3"]
    assert evaluate.main("semi", [*few, *places(data_dir, run_dir), "protocol.hidden_channels=8"]) == 2
    assert "round-1-weights.npz had 6 of the 6 samples in" in capsys.readouterr().err
    held_out = [*PRETRAINING, f"data_dir={data_dir}", f"partition_dir={tmp_path / 'lists'}"]
    main.run(compose("base", held_out), run_dir=tmp_path)
    assert evaluate.main("semi", [*few, *places(data_dir, tmp_path), "protocol.hidden_channels=8"]) == 0
    result = json.loads((tmp_path / "evaluation/round-1-weights-cifar10-split1/semi.json").read_text())
    assert (result["num_train"], result["num_test"]) == (6, 24) and result["intervals"]["checkpoint"]["top1_acc"]
    assert result["labels_unseen"] == "by its record" and "warning" not in capsys.readouterr().out
    (tmp_path / "seen_videos.npz").unlink()
    alone = [*few, *places(data_dir, tmp_path), "protocol.hidden_channels=8", f"work_dir={tmp_path / 'alone'}"]
    assert evaluate.main("semi", alone) == 0
    assert "no full record of what the checkpoint was trained on" in capsys.readouterr().out
    assert json.loads((tmp_path / "alone/semi.json").read_text())["labels_unseen"] == "not known"


def test_an_export_of_pictures_has_a_card_of_pictures(run_dir, tmp_path, capsys) -> None:
    alone = shutil.copy(run_dir / "round-1-weights.npz", tmp_path)  # in a run's folder its settings would tell
    words, out = [*MODEL, f"checkpoint={alone}"], f"out_dir={tmp_path / 'out'}"
    assert export.main([*words, out, "formats=[safetensors]"]) == 2
    assert NEEDS_PICTURES in capsys.readouterr().err and not (tmp_path / "out").exists()
    words = [*MODEL, f"checkpoint={run_dir / 'round-1-weights.npz'}", out]
    assert export.main([*words, "formats=[torchvision]"]) == 2
    assert "torchvision has only an R3D of depth 18 and ResNets with the ImageNet stem" in capsys.readouterr().err
    assert export.main([*words, "formats=[safetensors,pth]"]) == 0
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith("# Picture backbone ResNet, depth 18, width 4, stem cifar") and "frame" not in card
    for text in ("[B, 3, 16, 16]", "[B, 32, 2, 2]", "| pictures | 16 pixels |", "backbone.eval()(pictures)"):
        assert text in card
    for text in ("@inproceedings{chen2020simclr", "@techreport{krizhevsky2009cifar", "CIFAR-10 and CIFAR-100 are"):
        assert text in card
    assert "wang2021ctp" not in card and "UCF" not in card


def test_a_resnet_of_torchvisions_shape_is_loaded_by_it(tmp_path, monkeypatch) -> None:
    backbone = ResNet(18, stem="imagenet")
    state = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    save_torch(tmp_path / "model_pretrained.pth", state)
    words = ["model=resnet18", "model.stem=imagenet", "input=pictures", "formats=[torchvision]"]
    assert export.main([*words, f"checkpoint={tmp_path / 'model_pretrained.pth'}", f"out_dir={tmp_path / 'out'}"]) == 0
    monkeypatch.chdir(tmp_path / "out")
    (code,) = re.findall(r"With torchvision:\n\n```python\n(.*?)```", Path("README.md").read_text(), flags=re.DOTALL)
    found: dict = {}
    exec(code, found)
    theirs, pictures = found["model"].eval(), torch.rand(1, 3, 32, 32)
    theirs.fc = torch.nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(theirs(pictures), backbone.eval()(pictures).mean(dim=(2, 3)))


def test_the_report_names_commands_that_compose_and_the_papers_of_the_run(run_dir, tmp_path) -> None:
    page = tmp_path / "report.html"
    assert report.main([str(run_dir), "--output", str(page)]) == 0
    text = page.read_text()
    assert "samples/s" in text and "the server&#x27;s own pictures" in text
    assert "motion_probe" not in re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)
    lines = re.findall(r"python -m fedvssl\.\w+ [^\n<]*input=pictures[^\n<]*", text)
    named = set()
    for words in map(shlex.split, map(html.unescape, lines)):
        name = words[2].removeprefix("fedvssl.")
        own = [word for word in words[3:] if "=" in word and "<" not in word]
        config = read_command_line(name, [name, *own])
        assert config["model"]["width"] == 4 and config["crop_size"] == 16 and config["data"]["num_classes"] == 3
        assert config["data"]["media_dir"].endswith("cifar10/pictures")
        named.add(name)
    assert {"finetune", "test"} <= named <= {"finetune", "test", "retrieval", "knn", "linear_probe"}
    assert "chen2020simclr" in text and "krizhevsky2009cifar" in text and "wang2021ctp" not in text
    assert "ask for a citation of their report" in text


NEEDS_VIDEO = "is a picture, and this Sample needs a video"
NO_PICTURE = "is not a readable picture"
NEEDS_CLIPS = "An R3D takes clips [B,3,T,H,W] and got"
NEEDS_PICTURES = "A ResNet takes pictures [B,3,H,W] and got"
SIMCLR = [*DATA, *PRETRAINING[len(MODEL) + len(DATA) :]]
CTP = [*DATA, *PRETRAINING[-8:], "task.sample.clip_len=8", "task.sample.crop_size=16", "task.sample.short_sides=[16]"]


@pytest.mark.parametrize(
    ("kind", "words", "sentence"),
    [
        ("pictures", [*SIMCLR, *RESNET, "eval=clips", "eval.every=1"], NEEDS_VIDEO),
        ("pictures", [*SIMCLR, *R3D], NEEDS_CLIPS),
        ("videos", [*CTP, *RESNET], "task.backbone sets spatial_strides, which fedvssl.models.resnet.ResNet does"),
        ("pictures", [*CTP, *R3D], NEEDS_VIDEO),
        ("videos", [*SIMCLR, *RESNET], NO_PICTURE),
        ("videos", [*SIMCLR, *RESNET, "task=simclr_clips", "task.sample.clip_len=4"], NEEDS_PICTURES),
    ],
)
def test_pretraining_refuses_what_does_not_fit(data_dir, videos, tmp_path, kind, words, sentence) -> None:
    folder = data_dir if kind == "pictures" else videos
    words = [word for word in words if "max_side" not in word or "task=simclr_clips" not in words]
    with pytest.raises(ValueError, match=re.escape(sentence)):
        main.run(compose("base", [*words, f"data_dir={folder}"]), run_dir=tmp_path)
    assert not list(tmp_path.iterdir())


FITS_NOT = [
    ("pictures", [*PICTURES, *R3D], NEEDS_CLIPS),
    ("pictures", [*CLIPS, *RESNET], NEEDS_VIDEO),
    ("videos", [*CLIPS, *RESNET], NEEDS_PICTURES),
    ("videos", [*PICTURES, *RESNET], NO_PICTURE),
]


@pytest.mark.parametrize(("kind", "words", "sentence"), FITS_NOT)
def test_evaluation_and_fine_tuning_refuse_what_does_not_fit(
    data_dir, videos, tmp_path, capsys, kind, words, sentence
) -> None:
    words = [*words, f"data_dir={data_dir if kind == 'pictures' else videos}", f"work_dir={tmp_path}"]
    assert evaluate.main("knn", [*words, "checkpoint=random"]) == 2
    sizes = ["train_sample.sizes=[[20,16]]"] if "input=pictures" not in words else []
    assert finetune.main(["finetune", *words, *sizes, "from_scratch=true"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all(sentence in error for error in errors) and not list(tmp_path.iterdir())


def test_a_task_of_clips_is_told_before_the_work_on_pictures(data_dir, tmp_path, capsys) -> None:
    words = [*PICTURES, *RESNET, "task=recognition_clips", f"data_dir={data_dir}", f"work_dir={tmp_path}"]
    assert finetune.main(["finetune", *words, "from_scratch=true"]) == 2
    error = "error: RecognitionTask fails in a step on blue/train0.png and red/train35.png: KeyError: 'brightness'"
    assert capsys.readouterr().err.splitlines() == [error] and not list(tmp_path.iterdir())


def test_the_motion_probe_refuses_pictures(data_dir, capsys) -> None:
    assert evaluate.main("motion_probe", [*PICTURES, *RESNET, f"data_dir={data_dir}", "checkpoint=random"]) == 2
    assert NEEDS_VIDEO in capsys.readouterr().err

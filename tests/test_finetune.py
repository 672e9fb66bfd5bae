"""The fine-tuning command: resuming, initial weights, several processes, mistakes, and the published command line."""

import json
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch

from fedvssl import finetune, finetune_preprocess
from fedvssl import test as test_command
from fedvssl.building import build_task
from fedvssl.config import compose
from fedvssl.data.annotations import read_annotations
from fedvssl.data.dataset import BatchOrder, SampleDataset
from fedvssl.files.arrays import save_arrays
from fedvssl.files.tensors import load_torch, save_torch, to_arrays
from fedvssl.models.r3d import R3D
from fedvssl.tasks.recognition import RecognitionTask
from fedvssl.training.loop import seed_torch
from tests.action_set import TINY, TINY_TEST, write_action_set

ROOT = Path(__file__).parent.parent
SCRIPT_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_action_set(tmp_path_factory.mktemp("data"))


def overrides(data_dir: Path, work_dir: Path, *more: str) -> list[str]:
    return [*TINY, f"data_dir={data_dir}", f"work_dir={work_dir}", "from_scratch=true", *more]


def run(data_dir: Path, work_dir: Path, *more: str) -> int:
    return finetune.main(["finetune", *overrides(data_dir, work_dir, *more)])


def records(work_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (work_dir / "metrics.jsonl").read_text().splitlines()]


def equal(one, other) -> bool:
    """Bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return one == other


@pytest.fixture(scope="module")
def uninterrupted(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work_dir = tmp_path_factory.mktemp("uninterrupted")
    assert run(data_dir, work_dir, "training.epochs=3") == 0
    return work_dir


def test_leaves_everything_a_run_needs(uninterrupted: Path) -> None:
    names = {path.name for path in uninterrupted.iterdir()}
    assert names == {
        *("last.pth", "metrics.jsonl", "loss.png", "config.yaml", "tensorboard", "environment.json"),
    }
    assert [record["epoch"] for record in records(uninterrupted)] == [1, 2, 3]
    assert [record["lr"] for record in records(uninterrupted)] == pytest.approx([0.01, 0.001, 0.001])
    assert compose(str(uninterrupted / "config.yaml"), [])["training"]["epochs"] == 3


def test_no_epoch_is_chosen_on_the_test_list(uninterrupted: Path) -> None:
    """tests/test_held_out.py has best.pth."""
    assert all("test_top1_acc" in record and "validation_top1_acc" not in record for record in records(uninterrupted))
    assert load_torch(uninterrupted / "last.pth")["best_top1_acc"] == -1


def test_resumed_run_ends_bit_for_bit_where_the_uninterrupted_one_does(
    data_dir: Path, tmp_path: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data_dir, tmp_path, "training.epochs=1") == 0
    # A record that was written before the process was killed, without its checkpoint, must not stay.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 2, "loss": 99.0}) + "\n")
    assert run(data_dir, tmp_path, "training.epochs=3") == 0
    assert "1 of 3 epochs are done" in capsys.readouterr().out
    assert equal(load_torch(tmp_path / "last.pth"), load_torch(uninterrupted / "last.pth"))
    numbers = [[(r["epoch"], r["loss"], r["test_top1_acc"]) for r in records(d)] for d in (tmp_path, uninterrupted)]
    assert numbers[0] == numbers[1]


def test_a_finished_run_is_not_trained_again(data_dir: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert run(data_dir, tmp_path, "training.epochs=1") == 0
    assert len(records(tmp_path)) == 1


def test_other_settings_in_the_same_work_dir_are_refused(
    data_dir: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (uninterrupted / "last.pth").read_bytes()
    assert run(data_dir, uninterrupted, "training.epochs=3", "training.lr=0.5") == 2
    assert "training.lr was 0.01 and is 0.5 now" in capsys.readouterr().err
    assert (uninterrupted / "last.pth").read_bytes() == before


def test_evaluates_every_k_epochs_and_at_the_end(data_dir: Path, tmp_path: Path) -> None:
    assert run(data_dir, tmp_path, "training.epochs=3", "training.eval_every=2") == 0
    assert ["test_top1_acc" in record for record in records(tmp_path)] == [False, True, True]


def test_evaluates_only_at_the_end_where_no_interval_is_set(data_dir: Path, tmp_path: Path) -> None:
    assert run(data_dir, tmp_path, "training.epochs=2", "training.eval_every=null") == 0
    assert ["test_top1_acc" in record for record in records(tmp_path)] == [False, True]


def test_other_processors_on_a_continued_run_are_told(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data_dir, tmp_path, "training.epochs=1") == 0
    assert run(data_dir, tmp_path, "training.epochs=1") == 0
    assert "may differ" not in capsys.readouterr().out
    last = load_torch(tmp_path / "last.pth")
    assert "1 CPU process" in last["where"] and "32-true" in last["where"]
    save_torch(tmp_path / "last.pth", {**last, "where": "2 GPU processes, bf16-mixed"})
    assert run(data_dir, tmp_path, "training.epochs=1") == 0
    assert "ran on 2 GPU processes, bf16-mixed: from here on the numbers may differ" in capsys.readouterr().out


def built(words: list[str], *, pretrained: Path | None = None) -> RecognitionTask:
    config = compose("finetune", words)
    start = None if pretrained is None else str(pretrained)
    return finetune.build_recognition_task(partial(build_task, config), pretrained=start, seed=config["seed"])


def write_pretrained(path: Path, data_dir: Path, *, seed: int = 123) -> dict[str, torch.Tensor]:
    task = built(overrides(data_dir, path.parent, f"seed={seed}"))
    state = {name: value for name, value in task.recognizer.state_dict().items() if name.startswith("backbone.")}
    save_torch(path, state)
    return state


def test_pretrained_backbone_is_loaded_and_from_scratch_is_not(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "pretrained.pth"
    stored = write_pretrained(path, data_dir)
    words = [*TINY, f"data_dir={data_dir}"]
    pretrained, scratch = (built(words, pretrained=start).recognizer.state_dict() for start in (path, None))
    assert all(torch.equal(pretrained[name], value) for name, value in stored.items())
    convolutions = [name for name, value in stored.items() if value.ndim == 5]
    assert not any(torch.equal(scratch[name], stored[name]) for name in convolutions)
    assert torch.equal(pretrained["cls_head.fc_cls.bias"], torch.zeros(3))


def test_a_whole_recognizer_gives_its_backbone(data_dir: Path, tmp_path: Path, uninterrupted: Path) -> None:
    task = built([*TINY, f"data_dir={data_dir}"], pretrained=uninterrupted / "last.pth")
    stored = load_torch(uninterrupted / "last.pth")["model"]
    assert torch.equal(task.recognizer.state_dict()["backbone.stem.conv.weight"], stored["backbone.stem.conv.weight"])


def test_another_pretrained_file_under_the_same_name_is_noticed(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["finetune", *TINY, f"data_dir={data_dir}", f"work_dir={tmp_path}", f"pretrained={tmp_path / 'p.pth'}"]
    write_pretrained(tmp_path / "p.pth", data_dir)
    assert finetune.main([*command, "training.epochs=1"]) == 0
    assert f"from {tmp_path / 'p.pth'}" in capsys.readouterr().out
    write_pretrained(tmp_path / "p.pth", data_dir, seed=124)
    assert finetune.main([*command, "training.epochs=1"]) == 2
    assert "contents of pretrained differ now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (["training.learning_rate=1"], "learning_rate"),
        (["nonsense"], "'nonsense' is not an override"),
        (["data_dir=nowhere"], "train_split_1.json"),
        (["data.num_classes=2"], "labels up to 3, but data.num_classes is 2"),
        (["from_scratch=false", "pretrained=nowhere.pth"], "No pre-trained backbone nowhere.pth"),
        (["devices=0"], "devices=0 must be a whole number"),
        (["crop_size=64"], "A crop of 64 pixels does not fit"),
        (["test_sample.crop_size=64"], "A crop of 64 pixels does not fit into frames of 43x32"),
        (["training.epochs=0"], "training.epochs=0 must be a whole number, at least 1"),
        (["training.epochs=abc"], "training.epochs=abc must be a whole number"),
        (["training.batch_size=0"], "training.batch_size=0 must be"),
        (["training.eval_every=0"], "training.eval_every=0 must be"),
        (["training.steps=60"], "training.steps=60 must be null or a list"),
        (["training.max_norm=null"], "training.max_norm=None must be a number"),
        (["num_workers=-1"], "num_workers=-1 must be"),
        (["from_scratch=no"], "from_scratch=no must be true or false"),
        (["devices=3"], "training.batch_size=4 does not divide over 3 processes"),
        (["training.optimizer.param_groups={recognizer.*:{lr:1e30}}"], "The training diverged"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: list[str], sentence: str
) -> None:
    assert run(data_dir, tmp_path / "work", *mistake) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and sentence in errors[0]
    assert not (tmp_path / "work/last.pth").exists()


def test_numbers_are_checked_before_the_videos_and_the_processes(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("labelled_videos", "build_fabric"):
        monkeypatch.setattr(finetune, name, None)
    for mistake in ("training.eval_every=0", "devices=3", "test_sample.crop_size=64"):
        assert run(data_dir, tmp_path, mistake) == 2


@pytest.mark.parametrize("content", ["list", "tensor", "round"])
def test_a_file_that_is_no_backbone_gets_a_sentence(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path = tmp_path / ("round-20-weights.npz" if content == "round" else "p.pth")
    save_torch(path, [torch.zeros(2)] if content == "list" else torch.zeros(2))
    assert run(data_dir, tmp_path / "work", "from_scratch=false", f"pretrained={path}") == 2
    assert f"{path} holds no named tensors" in capsys.readouterr().err


def test_the_file_of_a_round_starts_a_fine_tuning_as_its_conversion_does(data_dir: Path, tmp_path: Path) -> None:
    weights, converted = tmp_path / "round-2-weights.npz", tmp_path / "model_pretrained.pth"
    seed_torch((3,))
    words = ["model.depth=10", "model.width=4"]
    save_arrays(weights, {f"backbone.{name}": array for name, array in to_arrays(R3D(10, width=4)).items()})
    assert finetune_preprocess.main([f"--pretrained_model_path={weights}", f"--output_path={converted}", *words]) == 0
    for path in (weights, converted):
        assert run(data_dir, tmp_path / path.stem, "training.epochs=1", "from_scratch=false", f"pretrained={path}") == 0
    models = [load_torch(tmp_path / path.stem / "last.pth")["model"] for path in (weights, converted)]
    assert equal(*models)


def test_what_the_disk_refuses_is_one_sentence(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run(data_dir, tmp_path / "file/work") == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert errors[-1].startswith("error: ") and str(tmp_path / "file") in errors[-1]


def test_an_unfitting_backbone_is_refused_before_training(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pretrained(tmp_path / "p.pth", data_dir)
    more = [f"pretrained={tmp_path / 'p.pth'}", "from_scratch=false", "model.width=8"]
    assert run(data_dir, tmp_path / "work", *more) == 2
    assert "'backbone.stem.conv.weight' is [4, 3, 3, 7, 7]" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_video_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], num_workers: int) -> None:
    data_dir = write_action_set(tmp_path / "data", num_train=4, num_test=3)
    (data_dir / "ucf101/zips/Run/train1.zip").write_bytes(b"no zip")
    assert run(data_dir, tmp_path / "work", f"num_workers={num_workers}") == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert errors[-1].startswith(f"error: {data_dir / 'ucf101/zips/Run/train1.zip'} is not a readable zip")


def test_defaults_are_the_published_recipe() -> None:
    config = compose("finetune", [])
    expected = {"epochs": 150, "batch_size": 32, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "steps": [60, 120]}
    assert expected.items() <= config["training"].items()
    assert config["training"]["max_norm"] == 40 and config["dropout"] == 0.5
    assert config["train_sample"]["sizes"] == [[149, 112], [171, 128], [192, 144]]
    assert config["test_sample"]["size"] == [171, 128] and config["test_sample"]["num_clips"] == 10
    assert config["model"] == {"_target_": "fedvssl.models.r3d.R3D", "depth": 18, "width": 64}


@pytest.mark.parametrize("name", ["finetune", "test"])
def test_hmdb51_preset_changes_the_data_and_nothing_of_the_recipe(name: str) -> None:
    usual, preset = compose(name, []), compose(name, ["experiment=finetune_hmdb51"])
    assert preset["data"]["name"] == "hmdb51" and preset["data"]["num_classes"] == 51
    assert preset["task"]["module"]["recognizer"].pop("num_classes") == 51
    assert usual["task"]["module"]["recognizer"].pop("num_classes") == 101
    changed = {key for key in usual if usual[key] != preset[key]}
    assert changed - {"checkpoint"} == {"data", "work_dir"}


def script(name: str, config: str, processes: int, *more: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "scripts" / name), config, str(processes), *more]
    return subprocess.run(command, cwd=cwd, env=SCRIPT_ENVIRONMENT, capture_output=True, text=True, timeout=550)


def test_published_command_lines(tmp_path: Path) -> None:
    """Those of the published README, with our names of the scripts, the configurations and the data folder."""
    write_action_set(tmp_path / "data")
    places = ["--work_dir=./finetune_results", "--data_dir=data"]
    trained = script("dist_train.sh", "conf/finetune.yaml", 1, *places, *TINY, "from_scratch=true", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "finetune_results/last.pth").is_file()
    tested = script("dist_test.sh", "conf/test.yaml", 1, *places, "--progress", *TINY_TEST, cwd=tmp_path)
    assert tested.returncode == 0, tested.stderr
    assert "top-1" in tested.stdout and (tmp_path / "finetune_results/test.json").is_file()


def train_on_two(data_dir: Path, work_dir: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return script("dist_train.sh", "finetune", 2, *overrides(data_dir, work_dir, *more), cwd=data_dir)


@pytest.fixture(scope="module")
def seven_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A number that divides neither over two processes nor into batches of four."""
    return write_action_set(tmp_path_factory.mktemp("seven"), num_train=7, num_test=5)


@pytest.fixture(scope="module")
def trained_on_two(seven_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work_dir = tmp_path_factory.mktemp("two") / "results"
    trained = train_on_two(seven_videos, work_dir)
    assert trained.returncode == 0, trained.stderr
    assert "2 CPU processes" in trained.stdout and trained.stdout.count("epoch 1/2") == 1
    return work_dir


def test_two_processes_train_one_model(seven_videos: Path, trained_on_two: Path) -> None:
    places = [f"work_dir={trained_on_two}", f"data_dir={seven_videos}"]
    assert test_command.main(["test", *places, *TINY_TEST]) == 0
    # The evaluation during training saw the model that was saved, in both processes.
    result = json.loads((trained_on_two / "test.json").read_text())
    for name in ("top1_acc", "top5_acc", "mean_class_acc"):
        assert records(trained_on_two)[-1][f"test_{name}"] == pytest.approx(result[name])


@pytest.mark.slow
def test_two_processes_go_on_to_the_numbers_of_an_uninterrupted_run(
    seven_videos: Path, trained_on_two: Path, tmp_path: Path
) -> None:
    for epochs in (1, 2):
        trained = train_on_two(seven_videos, tmp_path / "work", f"training.epochs={epochs}")
        assert trained.returncode == 0, trained.stderr
    assert equal(load_torch(tmp_path / "work/last.pth"), load_torch(trained_on_two / "last.pth"))


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_damaged_video_in_one_of_two_processes_ends_both(tmp_path: Path, rank: int) -> None:
    data_dir = write_action_set(tmp_path / "data", num_train=4, num_test=3)
    annotations = read_annotations(data_dir / "ucf101/annotations/train_split_1.json")
    dataset = SampleDataset(data_dir, annotations, None, seed_key=(7, 0, 0, 0))  # pyright: ignore[reportArgumentType]
    index = BatchOrder(dataset, batch_size=4, least=1, rank=rank, world_size=2).batches[0][0]
    damaged = data_dir / f"ucf101/zips/{annotations[index].name}.zip"
    damaged.write_bytes(b"no zip")
    failed = train_on_two(data_dir, tmp_path / "work")  # one that waits for the other does so for half an hour
    assert failed.returncode == 2
    assert failed.stderr.count("error:") == 1 and "Traceback" not in failed.stderr
    assert f"error: {damaged} is not a readable zip" in failed.stderr
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in text_of(path)]
    assert not left


def text_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended
        return b""


def test_a_mistake_with_two_processes_is_told_once(data_dir: Path, tmp_path: Path) -> None:
    failed = script("dist_train.sh", "finetune", 2, f"data_dir={tmp_path}", *TINY, "from_scratch=true", cwd=tmp_path)
    assert failed.returncode == 2
    assert failed.stderr.count("error:") == 1 and "Traceback" not in failed.stderr


def test_scripts_tell_their_usage() -> None:
    for name in ("dist_train.sh", "dist_test.sh"):
        failed = subprocess.run(["bash", str(ROOT / "scripts" / name)], capture_output=True, text=True)
        assert failed.returncode == 2 and f"usage: bash scripts/{name}" in failed.stderr

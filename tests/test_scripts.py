"""The scripts that people type: the result table, the debug picture, the quickstart."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import matplotlib.image
import numpy as np
import pytest
import yaml

from fedvssl.config import compose
from fedvssl.evaluation.intervals import paired_difference
from fedvssl.files.arrays import load_arrays
from fedvssl.files.atomic import read_json, write_json
from fedvssl.files.predictions import write_predictions
from fedvssl.files.rounds import round_path
from tests.federation import tiny_config, train, write_clients
from tests.tasks.test_ctp import SMALL
from tests.video_tasks import words_of
from tests.videos import moving_square, write_video

ROOT = Path(__file__).parent.parent
CHANCE = {"top1_acc": 0.25, "top5_acc": 1.0, "mean_class_acc": 0.25}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_test(folder: Path, top1_acc: float, *, num_videos: int = 20, **part: object) -> Path:
    facts = {"dataset": "d", "split": 1, "num_videos": num_videos, "num_classes": 4, "num_clips": 10}
    accuracies = {"top1_acc": top1_acc, "top5_acc": 1.0, "mean_class_acc": top1_acc}
    intervals = {"intervals": {"top1_acc": [top1_acc - 0.1, top1_acc + 0.1]}}
    baselines = {"chance": CHANCE, "majority_class": CHANCE}
    write_json(folder / "test.json", {**facts, **accuracies, **intervals, **baselines, **part})
    return folder


NAMES = [f"A/v_A_g{n // 4 + 1:02}_c{n % 4 + 1:02}" for n in range(20)]  # five groups of four


def write_answers(folder: Path, *, right: int, first: str = NAMES[0]) -> None:
    """Predictions of 20 videos, of which the first ones are right."""
    names, labels = [first, *NAMES[1:]], [0] * 20
    hits = [n < right for n in range(20)]
    found = {"top1_acc": hits, "top5_acc": [True] * 20}
    write_predictions(folder / "predictions.csv", names, labels=labels, answers=[1 - hit for hit in hits], right=found)


def compare(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "compare_results.py"), *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_several_seeds_give_mean_and_deviation(tmp_path: Path) -> None:
    seeds = [write_test(tmp_path / f"a{i}", acc) for i, acc in enumerate((0.5, 0.6, 0.7))]
    out = compare(f"ours={','.join(map(str, seeds))}", f"scratch={write_test(tmp_path / 'b', 0.4)}").stdout
    ours, scratch, majority, chance = out.splitlines()[1:5]
    assert "60.00 +- 10.00" in ours and "40.00 [30.0, 50.0]" in scratch and "+-" not in scratch
    assert majority.startswith("majority class") and chance.startswith("chance") and "25.00" in chance
    assert "20 test videos of 4 classes" in out and "1 and 3 seeds" in out


def test_rows_of_one_test_are_compared_in_pairs_with_the_first(tmp_path: Path) -> None:
    folders = [write_test(tmp_path / name, acc) for name, acc in (("a", 0.8), ("b", 0.5), ("c", 0.4), ("d", 0.4))]
    for folder, right in zip(folders, (16, 10, 8), strict=False):
        write_answers(folder, right=right)
    out = compare(*(f"{folder.name}={folder}" for folder in folders)).stdout
    right, baseline, groups = [n < 16 for n in range(20)], [n < 10 for n in range(20)], [name[:-4] for name in NAMES]
    expected = paired_difference(right, baseline, groups).text()
    assert expected != paired_difference(right, baseline, NAMES).text()
    assert expected.startswith("+30.0 [") and f"\ntop-1: a - b {expected}\n" in out
    assert "top-1: a - c +40.0 [" in out and "top-5: a - c +0.0 [0.0, 0.0]" in out
    assert "a - d" not in out, "it has no predictions.csv"
    write_answers(folders[1], right=10, first="another")
    assert "have other videos: test both with one list" in compare(*(f"{f.name}={f}" for f in folders)).stderr


@pytest.mark.parametrize(
    ("words", "sentence"), [([], "Name the rows"), (["nothing"], "is not a row"), (["a=/no/where"], "test.json")]
)
def test_mistakes_in_the_table_get_a_sentence(words: list[str], sentence: str) -> None:
    result = compare(*words)
    assert result.returncode == 2 and result.stderr.startswith("error: ") and sentence in result.stderr


def test_tests_of_other_videos_do_not_stand_in_one_table(tmp_path: Path) -> None:
    rows = [f"{n}={write_test(tmp_path / n, 0.5, num_videos=v)}" for n, v in (("a", 20), ("b", 19))]
    assert "differ in num_videos: they cannot stand in one table" in compare(*rows).stderr


def test_validation_results_say_so_and_do_not_stand_beside_those_of_the_test_list(tmp_path: Path) -> None:
    held_out = {"part": "validation", "validation": 0.2, "validation_seed": 0, "held_out": "in whole groups"}
    rows = [
        f"{n}={write_test(tmp_path / n, 0.5, **part)}" for n, part in {"a": {"part": "test"}, "b": held_out}.items()
    ]
    assert "differ in part, validation, validation_seed: they cannot stand" in compare(*rows).stderr
    assert "20 validation videos (held out in whole groups) of 4 classes" in compare(rows[1]).stdout
    assert compare(rows[0], f"old={write_test(tmp_path / 'old', 0.4)}").returncode == 0


def test_a_test_of_an_earlier_version_says_that_its_interval_is_over_videos(tmp_path: Path) -> None:
    new, old = (write_test(tmp_path / n, 0.5, **own) for n, own in (("new", {"num_groups": 5}), ("old", {})))
    seeds = f"seeds={old},{new}"
    out = compare(f"new={new}", f"old={old}", seeds).stdout
    assert out.splitlines()[-1] == "old (interval over single videos)", "several seeds have no interval"
    assert "single videos" not in compare(f"old={old}").stdout + compare(f"new={new}").stdout


def test_only_what_was_measured_alike_stands_in_one_table(tmp_path: Path) -> None:
    clips = {"clip_len": 16, "frame_stride": 2, "size": [171, 128], "crop_size": 112}
    rows = {"a": clips, "b": {**clips, "crop_size": 32, "clip_len": 8}, "c": clips, "d": {**clips, "lists": "other"}}
    words = {name: f"{name}={write_test(tmp_path / name, 0.5, **own)}" for name, own in rows.items()}
    assert "differ in clip_len, crop_size: they cannot stand" in compare(words["a"], words["b"]).stderr
    assert "differ in lists: they cannot stand" in compare(words["a"], words["d"]).stderr
    assert "10 clips each, 112 pixels, 16 frames, stride 2, 1 seed" in compare(words["a"], words["c"]).stdout
    old = f"old={write_test(tmp_path / 'old', 0.4)}"
    assert "The test of 'old' is of an earlier version, which did not record" in compare(words["a"], old).stderr
    assert "10 clips each, length and picture size not recorded" in compare(old).stdout


def test_a_row_whose_training_had_test_videos_says_so(tmp_path: Path) -> None:
    seen = {"seen": {"pre-training": 3, "fine-tuning": 1}}
    rows = [f"ours={write_test(tmp_path / 'a', 0.5, **seen)}", f"scratch={write_test(tmp_path / 'b', 0.4)}"]
    last = compare(*rows).stdout.splitlines()[-1]
    assert last == "ours; pre-training had 3 of these videos; fine-tuning had 1 of these videos"
    seeds = f"ours={write_test(tmp_path / 'c', 0.5)}"
    assert compare(f"{seeds},{tmp_path / 'a'}", rows[1]).stdout.splitlines()[-1] == last, "one of its seeds"


def test_a_row_cannot_take_the_name_of_a_baseline(tmp_path: Path) -> None:
    assert "'chance' is the name of a baseline" in compare(f"chance={write_test(tmp_path / 'a', 0.5)}").stderr


def test_debug_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_video(tmp_path / "clip.avi", moving_square(num_frames=40, height=48, width=64))
    picture = tmp_path / "ctp.png"
    monkeypatch.setattr(sys, "argv", ["show_task.py", str(video), "--output", str(picture), *SMALL])
    assert load("show_task").main() == 0
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[0] > 300 and pixels.shape[1] > 800
    coloured = (abs(pixels[..., :3] - [0.839, 0.153, 0.157]) < 0.02).all(axis=-1)  # tab:red, the first patch
    assert coloured.sum() > 100


@pytest.mark.parametrize(
    ("task", "num_rows"), [("vcop", 3), ("speed", 1), ("rot3d", 1), ("memdpc", 4), ("moco_clips", 2)]
)
def test_picture_of_what_a_task_asks(
    task: str, num_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    video = write_video(tmp_path / "clip.avi", moving_square(num_frames=40, height=48, width=64))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["show_task.py", str(video), *words_of(task)])
    script, drawn = load("show_task"), []
    draw = script.frames_figure
    monkeypatch.setattr(script, "frames_figure", lambda rows, title: drawn.append((rows, title)) or draw(rows, title))
    assert script.main() == 0
    ((rows, title),) = drawn
    assert len(rows) == num_rows and all(row.pictures.shape[1:] == (32, 32, 3) for row in rows)
    assert "clip.avi, seed 0: " in title
    name = "moco" if task == "moco_clips" else task
    assert capsys.readouterr().out == f"{name}.png\n" and matplotlib.image.imread(f"{name}.png").shape[1] > 300


@pytest.mark.parametrize("normalised", [[], ["task.module.views.mean=[0,0,0]", "task.module.views.std=[1,1,1]"]])
def test_a_picture_is_drawn_as_it_was_however_a_task_normalises(normalised: list[str], tmp_path: Path) -> None:
    picture = moving_square(num_frames=1, height=32, width=32)[0]
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1])
    words = [f"task.sample.draw.{name}=[1,1]" for name in ("crop_scale", "crop_ratio")]
    words += [f"task.sample.draw.{name}=0" for name in ("flip_prob", "jitter_prob", "grey_prob", "blur_prob")]
    script = load("show_task")
    figure, _ = script.draw_input(tmp_path / "a.png", seed=0, overrides=["task=simclr", *words, *normalised])
    assert len(figure.axes) == 2
    for axis in figure.axes:
        np.testing.assert_allclose(axis.images[0].get_array(), picture / 255, atol=1e-3)


def test_a_task_tells_its_own_normalisation_before_its_views() -> None:
    script, views = load("show_task"), SimpleNamespace(mean=[0.1] * 3, std=[0.2] * 3)
    own = {"mean": [0.3] * 3, "std": [0.4] * 3}
    assert script.normalisation_of(SimpleNamespace(views=views)) == (views.mean, views.std)
    assert script.normalisation_of(SimpleNamespace(views=2, **own)) == (own["mean"], own["std"])
    assert script.normalisation_of(SimpleNamespace(views=2)) == (script.IMAGENET_MEAN, script.IMAGENET_STD)


def test_picture_of_the_losses_of_a_trained_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clients(tmp_path, videos_per_client=(2, 2))
    words = words_of("rot3d", "pool_size=2", "strategy.min_fit_clients=2", "rounds=1", f"data_dir={tmp_path}")
    config = compose("base", [*words, "client_resources={num_gpus: 0, num_cpus: 1}"])
    train(config, tmp_path / "run")
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(sys, "argv", ["show_task.py", f"checkpoint={tmp_path / 'run/round-1-weights.npz'}"])
    script, titles = load("show_task"), []
    draw = script.frames_figure
    monkeypatch.setattr(script, "frames_figure", lambda rows, title: titles.append(title) or draw(rows, title))
    assert script.main() == 0 and (tmp_path / "run/rot3d.png").is_file()
    assert re.search(r"turn \d+ degrees; loss [\d.]+ -> [\d.]+ after round 1 \(chance 1.39\)", titles[0])


def test_picture_of_what_was_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The last round's head is that of the first client, and the video its first one."""
    write_clients(tmp_path)
    config = tiny_config(tmp_path)
    train(config, tmp_path / "run")
    with (tmp_path / "run" / "config.yaml").open("w") as file:
        yaml.safe_dump(config, file)
    monkeypatch.setattr(sys, "argv", ["show_task.py", f"checkpoint={tmp_path / 'run' / 'round-2-weights.npz'}"])
    script = load("show_task")
    seen = []
    monkeypatch.setattr(script, "predict", lambda *args, predict=script.predict: seen.append(args[1]) or predict(*args))
    assert script.main() == 0 and (tmp_path / "run" / "ctp.png").is_file()
    before, after = seen
    expected = {
        **load_arrays(round_path(tmp_path / "run", 2)),
        **load_arrays(tmp_path / "run/clients/client_1/kept-round-2.npz"),
    }
    assert before.keys() == after.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(after[name], array)
    assert not np.array_equal(before["head.fc1.weight"], after["head.fc1.weight"])
    for kept in tmp_path.glob("run/clients/*/kept-round-1.npz"):
        kept.unlink()
    monkeypatch.setattr(sys, "argv", ["show_task.py", f"checkpoint={tmp_path / 'run' / 'round-1-weights.npz'}"])
    assert script.main() == 2, "the initial head would be taken for a trained one"
    config["task"]["module"]["_target_"] = "os.system"
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(sys, "argv", ["show_task.py", f"checkpoint={tmp_path / 'run' / 'round-2-weights.npz'}"])
    assert script.main() == 2 and "config.yaml names os.system, which is no class of" in capsys.readouterr().err


@pytest.mark.parametrize("checkpoint", ["nowhere/round-3-weights.npz", "model_pretrained.pth"])
def test_a_checkpoint_outside_of_a_run_gets_a_sentence(checkpoint, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["show_task.py", f"checkpoint={checkpoint}"])
    assert load("show_task").main() == 2
    assert "is no round-<N>-weights.npz in the folder of its run" in capsys.readouterr().err


def test_a_missing_video_gets_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, "argv", ["show_task.py", "/no/clip.avi"])
    assert load("show_task").main() == 2
    assert capsys.readouterr().err.startswith("error: /no/clip.avi")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--raw_dir", "somewhere"], "belong together"),
        (["--speed", "9"], "unknown option --speed"),
        (["--seed", "seven"], "--seed seven must be a whole number"),
        (["--seed"], "--seed needs a value"),
        (["--raw_dir", "/no/clips", "--ann_dir", "/no/lists"], "no folder /no/clips"),
    ],
)
def test_mistakes_in_the_quickstart_get_a_sentence(words: list[str], sentence: str) -> None:
    result = subprocess.run(["bash", "scripts/quickstart.sh", *words], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and sentence in result.stderr


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_quickstart_twice(tmp_path: Path) -> None:
    """It learns, and the second run finds everything done and reaches the same table."""
    work_dir = tmp_path / "quickstart"
    tables = []
    for _ in range(2):
        command = ["bash", "scripts/quickstart.sh", "--work_dir", str(work_dir)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[-1].endswith(str(work_dir / "report.html"))
        assert (work_dir / "report.html").is_file()
        tables.append(read_json(work_dir / "table.json"))
    assert tables[0] == tables[1]
    above = [column for column, found in tables[0]["differences"].items() if found["low"] > 0]
    assert len(above) >= 3, tables[0]["differences"]

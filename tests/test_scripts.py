"""The scripts that people type: the result table, the debug picture, the quickstart."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import matplotlib.image
import pytest

from tests.tasks.test_ctp import SMALL
from tests.videos import moving_square, write_video

ROOT = Path(__file__).parent.parent
CHANCE = {"top1_acc": 0.25, "top5_acc": 1.0, "mean_class_acc": 0.25}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_test(folder: Path, top1_acc: float, *, num_videos: int = 20) -> Path:
    facts = {"dataset": "d", "split": 1, "num_videos": num_videos, "num_classes": 4, "num_clips": 10}
    accuracies = {"top1_acc": top1_acc, "top5_acc": 1.0, "mean_class_acc": top1_acc}
    folder.mkdir(parents=True)
    (folder / "test.json").write_text(json.dumps({**facts, **accuracies, "chance": CHANCE, "majority_class": CHANCE}))
    return folder


def compare(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "compare_results.py"), *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_several_seeds_give_mean_and_deviation(tmp_path: Path) -> None:
    seeds = [write_test(tmp_path / f"a{i}", acc) for i, acc in enumerate((0.5, 0.6, 0.7))]
    out = compare(f"ours={','.join(map(str, seeds))}", f"scratch={write_test(tmp_path / 'b', 0.4)}").stdout
    ours, scratch, majority, chance = out.splitlines()[1:5]
    assert "60.00 +- 10.00" in ours and "40.00" in scratch and "+-" not in scratch
    assert majority.startswith("majority class") and chance.startswith("chance") and "25.00" in chance
    assert "20 test videos of 4 classes" in out and "1 and 3 seeds" in out


@pytest.mark.parametrize(
    ("words", "sentence"), [([], "Name the rows"), (["nothing"], "is not a row"), (["a=/no/where"], "test.json")]
)
def test_mistakes_in_the_table_get_a_sentence(words: list[str], sentence: str) -> None:
    result = compare(*words)
    assert result.returncode == 2 and result.stderr.startswith("error: ") and sentence in result.stderr


def test_tests_of_other_videos_do_not_stand_in_one_table(tmp_path: Path) -> None:
    rows = [f"{n}={write_test(tmp_path / n, 0.5, num_videos=v)}" for n, v in (("a", 20), ("b", 19))]
    assert "differ in num_videos: they cannot stand in one table" in compare(*rows).stderr


def test_a_row_cannot_take_the_name_of_a_baseline(tmp_path: Path) -> None:
    assert "'chance' is the name of a baseline" in compare(f"chance={write_test(tmp_path / 'a', 0.5)}").stderr


def test_debug_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_video(tmp_path / "clip.avi", moving_square(num_frames=40, height=48, width=64))
    picture = tmp_path / "ctp.png"
    monkeypatch.setattr(sys, "argv", ["show_ctp.py", str(video), "--output", str(picture), *SMALL])
    assert load("show_ctp").main() == 0
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[0] > 800 and pixels.shape[1] > 800
    coloured = (abs(pixels[..., :3] - [0.839, 0.153, 0.157]) < 0.02).all(axis=-1)  # tab:red, the first patch
    assert coloured.sum() > 100


def test_a_missing_video_gets_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, "argv", ["show_ctp.py", "/no/clip.avi"])
    assert load("show_ctp").main() == 2
    assert capsys.readouterr().err.startswith("error: /no/clip.avi")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--raw_dir", "somewhere"], "belong together"),
        (["--speed", "9"], "unknown option --speed"),
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
    """The second run finds everything done and prints the same table."""
    command = ["bash", "scripts/quickstart.sh", "--work_dir", str(tmp_path / "quickstart")]
    tables = []
    for _ in range(2):
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        tables.append(result.stdout.rpartition("== done")[2].splitlines()[1:])
    assert any(line.startswith("pre-trained") for line in tables[0]) and tables[0] == tables[1]

"""The attack on the privacy of split learning: it finds what can be found, its table and picture, what it refuses."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from fedvssl import attack
from fedvssl.split.inversion import Inversion, as_floats
from tests.picture_set import write_picture_set
from tests.split.federation import MOCOSFL, settings_of, train
from tests.split.test_expert import EXPERT

QUICK = ("num_known=12", "num_victims=4", "attacker.epochs=2", "attacker.device=cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing defends, a defended expert, and frozen clients that come from it."""
    folder = tmp_path_factory.mktemp("attack")
    write_picture_set(folder)
    words = ("rounds=1", "model.bottleneck=C4S2")
    expert = f"init={folder / 'expert/round-1-weights.npz'}"
    made = {
        "open": settings_of(folder, *words, "strategy.cut=narrow", "strategy.wire_dtype=uint8"),
        "expert": settings_of(folder, *words, "strategy.privacy_weight=2", strategy=EXPERT),
        "frozen": settings_of(folder, *words, "strategy.cut=narrow", "strategy.frozen=true", expert, strategy=MOCOSFL),
    }
    for name, config in made.items():
        train(config, folder / name)
        (folder / name / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def round_file(runs: Path, name: str) -> Path:
    return runs / name / "round-1-weights.npz"


def test_the_decoder_finds_pictures_that_the_latents_still_hold() -> None:
    """Latents that are the pictures in other colours: the error falls far below that of the mean picture."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (48, 4, 4, 3), np.uint8)
    pictures = torch.from_numpy(np.stack([cv2.resize(one, (8, 8)) for one in small]))
    latents = 1 - as_floats(pictures)[:, [1, 2, 0]]
    attacker = Inversion(epochs=20, batch_size=8, lr=1e-2, seed=0, device="cpu")
    decoder = attacker.train(latents[:40], pictures[:40], report=lambda _: None)
    found = attacker.measure(pictures[40:], attacker.reconstruct(decoder, latents[40:]))
    mean = as_floats(pictures[:40]).mean(dim=0).expand(8, 3, 8, 8)
    guessed = attacker.measure(pictures[40:], mean)
    assert found["mse"].max() < guessed["mse"].min() / 3
    assert found["ssim"].min() > guessed["ssim"].max() and found["psnr"].min() > guessed["psnr"].max()
    blind = attacker.train(torch.zeros_like(latents[:40]), pictures[:40], report=lambda _: None)
    unseen = attacker.measure(pictures[40:], attacker.reconstruct(blind, torch.zeros(8, 3, 8, 8)))
    assert unseen["mse"].mean() > 0.9 * guessed["mse"].mean(), "nothing can be found where nothing is"


def test_the_table_has_the_run_its_control_and_what_needs_no_latents(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run={runs / 'frozen'}", f"control={runs / 'open'}", *QUICK]
    assert attack.main(words) == 0
    printed = capsys.readouterr().out
    folder = runs / "frozen/attack/round-1-weights"
    told = json.loads((folder / "attack.json").read_text())
    assert [*told["rows"]] == ["run", "control", "random weights", "mean picture"] and told["defended"]
    for name, row in told["rows"].items():
        assert 0 < row["mse"] < 1 and -1 < row["ssim"] < 1 and row["psnr"] > 0 and row["mse_se"] > 0
        assert (name == "mean picture") != (0 <= row.get("eval_knn_top1_acc", -1) <= 1)
        assert f"{row['mse']:.4f} +- {row['mse_se']:.4f}" in printed
    rows = told["rows"]
    assert len({rows[name]["mse"] for name in rows}) == 4, "four different networks or none"
    shown = cv2.imread(str(folder / "attack.png"))
    assert shown is not None and min(shown.shape[:2]) > 200
    held = {entry for path in runs.glob("cifar10/annotations/client_distribution/*") for entry in [path.read_text()]}
    assert len(told["victims"]) == 4 and all(any(name in text for text in held) for name in told["victims"])
    before = (folder / "attack.json").read_bytes()
    assert attack.main(words) == 0 and (folder / "attack.json").read_bytes() == before, (
        "the same seed, the same figures"
    )
    assert attack.main([*words, "seed=8"]) == 0
    assert (runs / "frozen/attack/round-1-weights-2/attack.json").is_file()


def test_a_run_that_nothing_defends_needs_no_control(runs: Path, tmp_path: Path) -> None:
    assert attack.main([f"checkpoint={round_file(runs, 'open')}", f"work_dir={tmp_path}", *QUICK]) == 0
    rows = json.loads((tmp_path / "attack.json").read_text())["rows"]
    assert [*rows] == ["run", "random weights", "mean picture"]


@pytest.mark.parametrize(
    ("name", "words", "sentence"),
    [
        ("frozen", [], "name the same training undefended"),
        ("expert", [], "name the same training undefended"),
        ("frozen", ["control={runs}/expert"], "is defended too"),
        ("frozen", ["control={runs}/nothing"], "no run of this name"),
        ("open", ["num_known=25"], "num_known=25 must be 2 to 24, the pictures that the test list has"),
        ("open", ["num_victims=37"], "num_victims=37 must be 1 to 36, the pictures that the clients hold"),
        ("open", ["attacker.epochs=0"], "attacker.epochs"),
        ("nothing", [], "round-1-weights.npz: name a round of split learning with run=<name>"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    name: str, words: list[str], sentence: str, runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = [word.format(runs=runs) for word in words]
    given = [f"checkpoint={round_file(runs, name)}", *(w for w in QUICK if w.split("=")[0] not in str(own)), *own]
    assert attack.main(given) != 0
    told = capfd.readouterr()
    assert sentence in told.err and "Traceback" not in told.err
    assert not (runs / name / "attack/round-1-weights/attack.json").exists() or name == "frozen"


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("strategy", {"_target_": "fedvssl.strategy.fedavg.FedAvg"}, "is no run of split learning"),
        ("task", {"sample": {"clip_len": 4}}, "is a run on clips"),
    ],
)
def test_runs_of_another_kind_are_refused(
    key: str, value: dict, sentence: str, runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load((runs / "open/config.yaml").read_text())
    config[key] = (
        value if key == "strategy" else {**config[key], "sample": {**config[key]["sample"], **value["sample"]}}
    )
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "round-1-weights.npz").write_bytes(round_file(runs, "open").read_bytes())
    assert attack.main([f"checkpoint={tmp_path}/round-1-weights.npz", *QUICK]) != 0
    assert sentence in capfd.readouterr().err

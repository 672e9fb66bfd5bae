"""What the benchmarks say about two sides; what they measure is theirs alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import (
    against,
    client_steps,
    embeddings,
    instances,
    learning,
    pictures,
    round_parts,
    task_seconds,
    time_to_quality,
    video_tasks,
    views,
)
from benchmarks.measure import Result, alternate
from benchmarks.plain import PlainSample
from fedvssl.building import build_sample
from fedvssl.config import compose
from fedvssl.data.dataset import train_loader
from fedvssl.files.atomic import write_json
from fedvssl.overrides import parse_overrides
from tests.federation import write_clients
from tests.videos import moving_square, write_frames

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("more_is_better", "ratio"), [(True, 0.5), (False, 2.0)])
def test_a_ratio_above_one_means_that_ours_does_more(more_is_better: bool, ratio: float) -> None:
    result = Result("name", "s", ours=[1.0, 1.0, 9.0], baseline=[2.0, 2.0, 0.1], more_is_better=more_is_better)
    assert result.ratio == ratio
    told = json.loads(json.dumps(result.to_json()))
    assert (told["ours"], told["baseline"], told["ratio"], told["unit"]) == (1.0, 2.0, ratio, "s")


@pytest.mark.parametrize(("published", "counts"), [(None, True), (1.75, True), (2.3, True), (1.7, False), (2.4, False)])
def test_a_baseline_that_is_not_the_published_one_does_not_count(published: float | None, counts: bool) -> None:
    result = Result("name", "s", ours=[1.0], baseline=[2.0], published=published)
    assert result.counts == counts and ("DOES NOT COUNT" in result.line()) != counts


def test_sides_take_turns_after_a_warm_up() -> None:
    calls: list[str] = []
    seconds = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert "".join(calls) == "ababab" and len(seconds["a"]) == len(seconds["b"]) == 2


def test_the_parts_of_a_round_do_the_work_of_a_round(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    sent = {"backbone.a.weight": rng.normal(size=(50, 3)).astype(np.float32), "backbone.n": np.array(1)}
    trained = {name: array + 1 for name, array in sent.items()}
    monkeypatch.setattr(round_parts, "backbone_arrays", lambda: (sent, trained))
    results = {result.name.removeprefix("round_"): result for result in round_parts.measure()}
    assert list(results) == ["copying", "checks", "averaging", "saving"] and not list(tmp_path.iterdir())
    assert all(len(result.ours) == len(result.baseline) == round_parts.REPEATS for result in results.values())
    with pytest.raises(ValueError, match="not finite"):
        round_parts.check(sent, {**trained, "backbone.a.weight": np.full((50, 3), np.nan, np.float32)})


def test_the_benchmark_of_views_does_the_work_of_each_task(monkeypatch) -> None:
    monkeypatch.setattr(views, "SIZES", {"cpu": (4, 8), "cuda": (4, 8)})
    monkeypatch.setattr(views, "REPEATS", 1)
    monkeypatch.setattr(views, "TASKS", ("simclr", "byol"))
    monkeypatch.setattr(pictures, "NUM_PICTURES", 8)
    results = views.measure()
    assert [result.name for result in results] == ["views", *(f"step_{name}" for name in views.TASKS)]
    assert all(result.ours[0] > 0 and result.baseline[0] > 0 for result in results)
    (line,) = views.time_widths([4])
    assert line.startswith("width   4: ") and line.endswith("s/step of 8 pictures")


def test_the_benchmark_of_video_tasks_has_a_row_for_each(monkeypatch) -> None:
    monkeypatch.setattr(video_tasks, "SIZES", {"cpu": (10, 4), "cuda": (10, 4)})
    monkeypatch.setattr(video_tasks, "BATCH", 1)
    monkeypatch.setattr(video_tasks, "REPEATS", 1)
    monkeypatch.setattr(video_tasks, "TASKS", ("rot3d", "moco_clips"))
    results = video_tasks.measure()
    assert [result.name for result in results] == ["step_rot3d", "step_moco_clips"]
    assert all(result.ours[0] > 0 and result.baseline[0] > 0 for result in results)


def test_the_seconds_of_a_task_are_those_of_its_row_and_all_clients(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(task_seconds, "REPEATS", 1)
    write_clients(tmp_path)
    left_out = [f"rows.{name}=null" for name in ("ctp", "vcop", "speed", "memdpc", "moco_clips")]
    left_out += [f"rows.{name}_fedavg=null" for name in ("ctp", "vcop", "speed", "rot3d", "memdpc", "moco_clips")]
    small = ["rounds=3", "training.local_epochs=2", "model.width=4"]
    words = ["experiment=tasks_small", f"data_dir={tmp_path}", "data.name=ucf101", "data.num_classes=3"]
    (line,) = task_seconds.measure([*words, f"overrides.main={small}", *left_out])
    assert line.startswith("rot3d ") and f", {3 * 2 * (3 + 4 + 5)} clips: " in line
    milliseconds, seconds = float(line.split()[1]), float(line.split()[-3])
    assert milliseconds > 0 and abs(seconds - milliseconds * 72 / 1000) <= 0.51


def test_the_benchmark_of_embeddings_makes_the_same_steps_on_both_sides(tmp_path, monkeypatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr(embeddings, "MODEL", "sam_tiny")
    losses, encoded = {}, dict.fromkeys(("encoder", "kept"), 0)
    for side in encoded:

        def count(*_, side=side) -> None:
            encoded[side] += 1

        (tmp_path / side).mkdir()
        steps = embeddings.Steps(tmp_path / side, side=32)
        steps.task.module.vision_encoder.register_forward_hook(count)
        losses[side] = [steps.step(side) for _ in range(3)]
    assert encoded == {"encoder": 3, "kept": 1} and losses["kept"] == pytest.approx(losses["encoder"], abs=1e-5)
    assert losses["kept"][2] != losses["kept"][0]
    result, lines = embeddings.measure(side=32, repeats=2)
    assert len(result.ours) == len(result.baseline) == 2 and min(result.ours) > 0
    shares = [100 * (1 - ours / whole) for ours, whole in zip(result.ours, result.baseline, strict=True)]
    assert f"{np.median(shares):.4g} [" in lines[0] and "2 pairs" in lines[0]


def test_the_mapped_array_gives_the_batches_of_the_files(tmp_path, monkeypatch) -> None:
    """Or one side would do less work than the other."""
    seen = {}

    def look(sides: dict, **_: object) -> dict[str, list[float]]:
        for name, run in sides.items():
            batches = []
            monkeypatch.setattr(
                pictures, "train_loader", lambda *a, b=batches, **o: b.extend(train_loader(*a, **o)) or b
            )
            run()
            seen[name] = batches
        return {name: [1.0] for name in sides}

    monkeypatch.setattr(pictures, "alternate", look)
    monkeypatch.setattr(pictures, "BATCH_SIZE", 4)
    monkeypatch.setattr(pictures, "NUM_PICTURES", 10)
    pictures.measure(pictures.smooth_pictures(np.random.default_rng(0)), tmp_path)
    assert list(seen) == ["baseline", "stored", ".png", ".jpg"] and len(seen["baseline"]) == 3
    for form in ("stored", ".png"):
        for ours, baseline in zip(seen[form], seen["baseline"], strict=True):
            assert all(torch.equal(ours[name], baseline[name]) for name in ("frames", "label", "index"))
    error = (seen[".jpg"][0]["frames"].float() - seen["baseline"][0]["frames"].float()).abs().mean()
    assert 0 < error < 20


MEASURE = """
from functools import partial
import numpy as np
from benchmarks.measure import peak_memory
print(peak_memory(partial(np.ones, 8_000_000)))
"""


def test_peak_memory_is_that_of_the_work_alone() -> None:
    """In a process that has no memory of its own to spare, as the benchmarks have."""
    output = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, check=True, cwd=ROOT).stdout
    assert 60e6 < int(output) < 90e6


def test_the_plain_pipeline_makes_a_clip(tmp_path) -> None:
    path = write_frames(tmp_path / "video.zip", moving_square(num_frames=40, height=240, width=320))
    sample = PlainSample(build_sample(compose("base", [])))
    for seed in range(5):
        made = sample(path, np.random.default_rng(seed))
        assert made["clips"].shape == (3, 16, 112, 112) and made["boxes"].shape == (3, 16, 4)
        assert made["clips"].isfinite().all() and made["clips"].std() > 0.3


def quickstart_table(value: float, *, low: float) -> dict:
    cell, difference = (
        {"value": value},
        {"baseline": "random weights", "difference": value - 0.1, "low": low, "high": 0.9},
    )
    return {"rows": {"pre-trained": {"R@1": cell}, "chance": {}}, "differences": {"R@1": difference}}


def test_learning_counts_the_seeds_whose_interval_excludes_zero() -> None:
    tables = [quickstart_table(0.4, low=0.1), quickstart_table(0.6, low=-0.1)]
    (line,) = learning.summarise(tables)
    assert line.startswith(
        "R@1: pre-trained - random weights +40.0 +- 14.1, above 0 in 1 of 2 seeds: +30.0 [10.0, 90.0]"
    )
    found = learning.entries(tables)
    assert found["pre-trained"]["R@1"].text() == "50.00 +- 14.14" and found["chance"]["R@1"].text() == "-"


def test_learning_does_not_repeat_a_seed_that_has_its_table(tmp_path, monkeypatch) -> None:
    calls = []

    def quickstart(command, **_) -> None:
        calls.append(command)
        write_json(tmp_path / "seed3" / "table.json", {"rows": {}})

    monkeypatch.setattr(learning.subprocess, "run", quickstart)
    assert learning.run_seed(3, tmp_path / "seed3") == learning.run_seed(3, tmp_path / "seed3") == {"rows": {}}
    assert len(calls) == 1 and calls[0][2:4] == ["--seed", "3"]


RECORDS = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
for number, low in enumerate(json.loads(sys.argv[2])):
    with (folder / "metrics.jsonl").open("a") as file:
        record = {"eval_R@1": low + 0.1} | ({"gain_R@1_low": low} if number else {})
        print(json.dumps({"server_round": number, **record}), file=file)
time.sleep(60 * float(sys.argv[3]))
"""


def test_training_is_stopped_once_two_rounds_in_a_row_are_better_than_random_weights(tmp_path: Path) -> None:
    command = ["-c", RECORDS, str(tmp_path / "run"), json.dumps([0.5, 0.1, -0.1, 0.1, 0.2, 0.3]), "1"]
    found, _ = time_to_quality.train_until(command, tmp_path / "run", "R@1", tmp_path / "log.txt")
    assert [record["server_round"] for record in found] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", [time_to_quality.SYNTHETIC, time_to_quality.CLIPS])
def test_a_run_is_evaluated_by_the_metric_of_its_kind_alone(kind: time_to_quality.Kind) -> None:
    protocols = compose("base", parse_overrides(kind.words()))["eval"]["protocols"]
    assert {*protocols} == {*time_to_quality.PROTOCOLS}
    assert [name for name, own in protocols.items() if own] == [kind.metric]


def test_a_run_that_does_not_get_there_is_told(tmp_path: Path) -> None:
    command = ["-c", RECORDS, str(tmp_path / "run"), json.dumps([0.1, 0.2, -0.1, 0.3]), "0"]
    with pytest.raises(SystemExit, match="did not get there"):
        time_to_quality.train_until(command, tmp_path / "run", "R@1", tmp_path / "log.txt")


@pytest.mark.parametrize("number", [1, 5, 6, 10, 25])
def test_the_interval_of_a_median_covers_it(number: int) -> None:
    """Of six values or more in at least 95 of 100 draws, and not in nearly all of them where there are many."""
    drawn = np.random.default_rng(number).exponential(size=(4000, number)).tolist()
    ends = [against.interval_of_median(values) for values in drawn]
    covered = np.mean([low <= np.log(2) <= high for low, high in ends])
    if number < 6:
        assert all(end == (min(values), max(values)) for end, values in zip(ends, drawn, strict=True))
    else:
        assert 0.94 < covered < 0.99


def test_slower_means_that_the_whole_interval_lies_above_three_percent() -> None:
    there = [1.0] * 10
    assert against.line_of("x", [1.05] * 10, there).endswith("1.050 [1.050 1.050] SLOWER")
    assert "SLOWER" not in against.line_of("x", [1.05] * 7 + [1.0] * 3, there)


def test_the_loss_has_moved_once_it_is_five_percent_below_standing_still(tmp_path: Path) -> None:
    losses = [1.2, 0.96, 0.94, 0.97]
    rounds = [{"loss": loss, "trivial_still": 1.0} for loss in losses]
    found = client_steps.curve_of(rounds, clients=4, seed=7, steps=49, precision="32-true")
    assert found.moved == 3 and "moved in round 3 (98 to 147 steps of each client), last loss 0.970" in found.line()
    still = client_steps.curve_of(rounds[:2], clients=1, seed=7, steps=10, precision="32-true")
    assert still.moved is None and "not moved after 20 steps" in still.line()
    client_steps.draw(tmp_path / "steps.png", [found, still])
    assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")


class Told:
    """A task whose embedding of a view is the view itself."""

    backbone = projector = torch.nn.Identity()


def test_a_view_is_found_among_the_others_of_its_own_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "embed", lambda backbone, projector, view: view)
    right, wrong = torch.eye(4), torch.eye(4).roll(1, dims=0)
    found = instances.told(Told(), [(right, right), (right, wrong), (right, 3 * right + 0.1), (right, wrong)])
    hits, same, others, _ = (float(word) for word in found.rstrip("|").split("|"))
    assert hits == 50.0 and 0.45 < same <= 0.5 and 0.1 < others < 0.25

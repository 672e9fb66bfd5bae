"""The sweep: its plan, what a second start skips or refuses, failures, tables; the commands are stood in for."""

import csv
import json
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from fedvssl import sweep
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation, read_annotations, write_annotations
from fedvssl.data.validation import hold_out
from fedvssl.evaluation.intervals import paired_difference
from fedvssl.files.progress import clock
from fedvssl.sweeping import curves
from fedvssl.sweeping.plan import Cell, Plan, Step
from tests.action_set import TINY as TINY_FINETUNING
from tests.action_set import write_action_set
from tests.federation import TINY as TINY_PRETRAINING
from tests.federation import write_clients
from tests.stand_in import StandIn

TWO_SEEDS = "seeds=[1,2]"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_action_set(folder)
    write_clients(folder)
    return folder


@pytest.fixture
def words(data_dir: Path, tmp_path: Path) -> list[str]:
    """Overrides for two rows and everything that they can be measured by; others are left out."""
    rows = [
        "mean_frame",
        "centralised",
        "alone",
        "fedavg",
        *(f"fedvssl_{pair}" for pair in ("0_0", "1_0", "0_1", "1_1", "09_0")),
    ]
    return [
        *(f"data_dir={data_dir}", "data.num_classes=3", f"work_dir={tmp_path}/sweep", "seeds=[1]"),
        *("overrides.main=['pool_size=3','rounds=2']", *(f"rows.{row}=null" for row in rows)),
        "measures.motion_probe=null",
    ]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command is run to describe the machine."""
    monkeypatch.setattr(sweep, "machine", lambda _precision: "Zen, 2 cores, no GPU, torch 2.15")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(sweep, "run_child", stand_in)
    return stand_in


def planned(words: list[str]) -> list[Step]:
    settings = sweep.read(compose("sweep", words))
    return [step for seed in settings.seeds for step in Plan(settings, free=sweep.FREE).steps(seed)]


def test_every_table_has_its_rows_and_each_is_measured_by_what_fits_it(data_dir: Path, tmp_path: Path) -> None:
    steps = planned([f"data_dir={data_dir}", f"work_dir={tmp_path}", "overrides.main=['pool_size=3']", TWO_SEEDS])
    assert Counter(step.kind for step in steps) == {
        **{"pretrain": 2 * 9, "retrieval": 2 * 11, "linear_probe": 2 * 11, "motion_probe": 2 * 11, "finetune": 2 * 10}
    }
    protocols = ["retrieval", "linear_probe", "motion_probe"]
    assert [step.kind for step in steps if step.cell == Cell("random", 2, 1)] == protocols
    assert [step.kind for step in steps if step.cell == Cell("mean_frame", 2, 1)] == protocols
    assert [step.kind for step in steps if step.cell == Cell("scratch", 2, 1)] == ["finetune"]
    strategies = {
        step.cell.row: [step.settings[f"strategy.{name}"] for name in ("mix_coeff", "swbeta", "fedavg")]
        for step in steps
        if step.kind == "pretrain"
    }
    assert (
        strategies.pop("centralised") == strategies.pop("alone") == [0, 0, False]
        and strategies.pop("fedavg")[2] is True
    )
    alphas = {"0": 0, "1": 1, "09": 0.9}
    assert strategies == {f"fedvssl_{a}_{b}": [alphas[a], b, False] for a in alphas for b in (0, 1)}


def test_rows_of_a_seed_differ_in_their_strategy_alone(data_dir: Path, tmp_path: Path) -> None:
    steps = planned([f"data_dir={data_dir}", f"work_dir={tmp_path}", "overrides.main=['pool_size=3']", "seeds=[7]"])
    by_row = {step.cell.row: step.settings for step in steps if step.kind == "pretrain"}
    pooled, _ = by_row.pop("centralised"), by_row.pop("alone")
    shared = [{k: v for k, v in row.items() if not k.startswith("strategy.")} for row in by_row.values()]
    assert all(row == shared[0] for row in shared) and shared[0]["seed"] == 7
    differ = {name for name in {*pooled, *shared[0]} if pooled.get(name) != shared[0].get(name)}
    lists = {f"contents of client_dist{number}.json" for number in (1, 2, 3)}
    assert {name for name in differ if not name.startswith("strategy.")} == {"pool_size", *lists}


def test_the_pool_has_every_video_of_the_clients_once(words: list[str], tmp_path: Path) -> None:
    planned([word for word in words if "centralised" not in word])
    pool = read_annotations(tmp_path / "sweep/centralised-seed1-split1/pool/client_dist1.json")
    assert len(pool) == len({video.name for video in pool}) == 3 + 4 + 5


def test_one_client_alone_has_its_list_and_no_other(words: list[str], tmp_path: Path, data_dir: Path) -> None:
    planned([*(word for word in words if word != "rows.alone=null"), "rows.alone.alone=2"])
    own = read_annotations(tmp_path / "sweep/alone-seed1-split1/alone2/client_dist1.json")
    lists = data_dir / "ucf101/annotations/client_distribution"
    assert own == read_annotations(lists / "client_dist2.json") and len(own) == 4


def test_the_mean_frame_is_read_from_its_own_row(words: list[str], commands: StandIn, tmp_path: Path) -> None:
    assert sweep.main([word for word in words if word != "rows.mean_frame=null"]) == 0
    found = {}
    for row in ("mean_frame", "random"):
        cell = json.loads((tmp_path / f"sweep/results/{row}-seed1-split1.json").read_text())
        found[row] = cell["retrieval"]["metrics"]["R@1"], cell["retrieval"]["right"]["R@1"].count("1")
        assert {*cell} == {"retrieval", "linear_probe"}
    assert found == {"mean_frame": (0.25, 3), "random": (0.3, 4)}


FEW = (
    "+measures.finetune_1={command: finetune, overrides: ['labels_per_class=1'], rows: null, columns: {top1_acc: few}}"
)


def test_a_measure_may_have_overrides_and_results_of_its_own(
    words: list[str], commands: StandIn, tmp_path: Path
) -> None:
    assert sweep.main([*words, FEW]) == 0
    cell = json.loads((tmp_path / "sweep/results/scratch-seed1-split1.json").read_text())
    assert {kind: result["settings"]["labels_per_class"] for kind, result in cell.items()} == {
        **{"finetune": None, "finetune_1": 1}
    }
    results = tmp_path / "sweep/results"
    assert " few |" in (results / "table.md").read_text().splitlines()[0]
    pictures = [(results / name).read_bytes()[:4] for name in ("curves.png", "labels.png")]
    assert pictures == [b"\x89PNG"] * 2


def test_a_dry_run_tells_what_is_open_and_runs_nothing(
    words: list[str], commands: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert sweep.main([*words, "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert "| random-seed1-split1 | - | open | open | - |" in printed and commands.modules == []
    assert "7 of 7 steps are open: 2 retrieval, 2 linear_probe, 1 pretrain, 2 finetune." in printed
    assert "No step of these kinds is done" in printed and not (tmp_path / "sweep/results").exists()
    assert sweep.main([*words, "measures.finetune.rows=[]"]) == 0
    path = tmp_path / "sweep/results/random-seed1-split1.json"
    path.write_text(json.dumps({"retrieval": {**json.loads(path.read_text())["retrieval"], "seconds": 60.0}}))
    capsys.readouterr()
    assert sweep.main([*words, TWO_SEEDS, "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert "| random-seed1-split1 | - | done | open | - |" in printed
    assert "without finetune, of which none is done" in printed and "2 retrieval" in printed
    cells = [json.loads(path.read_text()) for path in (tmp_path / "sweep/results").glob("*.json")]
    known = [[cell[kind]["seconds"] for cell in cells if kind in cell] for kind in ("retrieval", "linear_probe")]
    seconds = 2 * statistics.median(known[0]) + 3 * statistics.median(known[1])
    seconds += cells[0].get("pretrain", cells[1].get("pretrain", {}))["seconds"]
    assert f". About {clock(seconds)}, by the median" in printed and seconds >= 60
    assert sweep.main([*words, "--dry_run", "rounds=3"]) == 2, "a mistake is told"


def test_differences_are_paired_by_seed_with_an_interval_over_seeds(
    words: list[str], commands: StandIn, tmp_path: Path
) -> None:
    own = [word for word in words if word != "rows.fedavg=null"]
    assert sweep.main([*own, "seeds=[1,2,3]"]) == 0
    lines = (tmp_path / "sweep/results/differences.md").read_text().splitlines()
    assert lines[0].startswith("Paired differences in points, mean over the runs.")
    headings = [f"{name} - FedAvg" for name in ("R@1", "probe top-1", "fine-tuned top-1")]
    assert lines[2] == f"|  | {' | '.join(headings)} |" and lines[-1].startswith("Percent on ucf101")
    # R@1 of random is 4 of 11 for each seed, of FedAvg 6, 7 and 8: -2, -3, -4 of 11 with sd 1 of 11.
    half = 4.303 / 3**0.5 / 11
    own = [paired_difference(first(4), first(number), [f"v{n}" for n in range(11)]) for number in (6, 7, 8)]
    low = min(-3 / 11 - half, sum(one.low for one in own) / 3)
    high = max(-3 / 11 + half, sum(one.high for one in own) / 3)
    below = sum(one.high < 0 for one in own)
    expected = f"-27.3 [{100 * low:.1f}, {100 * high:.1f}], 0 above and {below} below of 3 |"
    (random,) = [line for line in lines if line.startswith("| random weights")]
    same = "+0.0 [0.0, 0.0], 0 above and 0 below of 3"
    assert random.startswith(f"| random weights | {expected}") and random.endswith(f"| {same} | - |")
    assert any(line.startswith(f"| FedVSSL (0.9, 1) | {same} |") for line in lines)
    assert not any(line.startswith("| FedAvg") for line in lines)


def first(number: int) -> list[bool]:
    """Of 11 test videos the first are right."""
    return [n < number for n in range(11)]


def test_differences_tell_what_is_not_done_and_who_has_seen_test_videos(
    words: list[str], commands: StandIn, tmp_path: Path
) -> None:
    own = [word for word in words if word != "rows.fedavg=null"]
    commands.seen = {"seen": {"pre-training": 2}}
    assert sweep.main([*own, TWO_SEEDS]) == 0
    path = tmp_path / "sweep/results/fedvssl_09_1-seed2-split1.json"
    cell = json.loads(path.read_text())
    del cell["retrieval"]["right"]
    path.write_text(json.dumps(cell))
    assert sweep.main([*own, TWO_SEEDS]) == 0
    text = (tmp_path / "sweep/results/differences.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| FedVSSL (0.9, 1) (trained on test videos) |")]
    assert "below of 1 (of 2 planned) |" in line
    assert "Without digits for each video, as of earlier versions: fedvssl_09_1-seed2-split1. Remove them." in text


def test_a_measure_has_a_baseline_of_its_own(words: list[str], commands: StandIn, tmp_path: Path) -> None:
    assert sweep.main([*words, "+measures.finetune.baseline=scratch", "baseline=random"]) == 0
    lines = (tmp_path / "sweep/results/differences.md").read_text().splitlines()
    assert lines[2] == ("|  | R@1 - random weights | probe top-1 - random weights | fine-tuned top-1 - from scratch |")


def test_cells_of_other_numbers_of_videos_are_named(words: list[str], commands: StandIn, tmp_path: Path) -> None:
    own = [word for word in words if word != "rows.fedavg=null"]
    assert sweep.main(own) == 0
    path = tmp_path / "sweep/results/fedavg-seed1-split1.json"
    path.write_text(path.read_text().replace('"R@1": "1', '"R@1": "11', 1))
    with pytest.raises(ValueError, match=r"retrieval of random-seed1-split1 and fedavg-seed1-split1: .* Remove one"):
        sweep.sweep(own)


def test_pictures_have_the_numbers_of_the_cells(words: list[str], commands: StandIn) -> None:
    two = [*words, TWO_SEEDS, FEW, "+rows.own={title: own, overrides: []}"]
    assert sweep.main(two) == 0
    settings = sweep.read(compose("sweep", two))
    plans, steps = sweep.planned(settings, two)
    panels, dashed = curves.curves_of(settings, steps)
    both = {1: [9.0, 9.0], 2: [8.0, 8.0]}
    assert panels["loss"] == {"FedVSSL (0.9, 1)": both, "own": both} and {*panels} == {"loss", "iou"}
    assert dashed == {"loss": {"still": {1: [9.5] * 4, 2: [9.5] * 4}}, "iou": {"still": {1: [0.5] * 4, 2: [0.5] * 4}}}
    lines = curves.labels_of(settings, plans, steps)
    assert lines["from scratch"] == {1: [70.0, 70.0], 2: [70.0, 70.0]} and {*lines} == {"from scratch", *panels["loss"]}


def test_a_line_keeps_its_colour_in_every_panel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = []
    saved = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *words, **o: figures.append(self) or saved(self, *words, **o))
    panels = {"loss": {name: {1: [1.0]} for name in "ABC"}, "iou": {name: {1: [1.0]} for name in "BC"}}
    curves._draw(tmp_path / "x.png", panels, {"loss": {"still": {1: [2.0]}}}, x="round")
    (figure,) = figures
    colors = [[line.get_color() for line in axes.lines] for axes in figure.axes]
    assert colors == [["C0", "C1", "C2", "k"], ["C1", "C2"]]
    legend = {text.get_text(): line.get_color() for text, line in zip(*legend_of(figure), strict=True)}
    assert legend == {"A": "C0", "B": "C1", "C": "C2", "still": "k"}


def legend_of(figure: Figure) -> tuple[list, list]:
    (legend,) = figure.legends
    return legend.get_texts(), legend.get_lines()


def test_a_dry_run_leaves_the_lists_of_a_sweep_alone(words: list[str], commands: StandIn, tmp_path: Path) -> None:
    own = [*(word for word in words if word != "rows.alone=null"), "measures.finetune.rows=[]"]
    assert sweep.main(own) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "sweep").rglob("*") if path.is_file()}
    assert sweep.main([*own, "rows.alone.alone=2", "--dry-run"]) == 2, "results of other settings"
    assert sweep.main([*own, "--dry_run"]) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "sweep").rglob("*") if path.is_file()} == before


def test_without_a_baseline_nothing_is_compared(words: list[str], commands: StandIn, tmp_path: Path) -> None:
    assert sweep.main([*words, "baseline=null"]) == 0
    assert "No row is compared" in (tmp_path / "sweep/results/differences.md").read_text()


def test_a_second_start_finds_everything_done(words: list[str], commands: StandIn, tmp_path: Path) -> None:
    assert sweep.main(words) == 0
    once = ["retrieval", "linear_probe", "main", "retrieval", "linear_probe", "finetune", "test"]
    assert commands.modules == [*once, "finetune_preprocess", "finetune", "test"], "fine-tuning comes last"
    commands.modules.clear()
    assert sweep.main(words) == 0 and commands.modules == []
    (tmp_path / "sweep/results/random-seed1-split1.json").unlink()
    assert sweep.main(words) == 0 and commands.modules == once[:2]
    commands.modules.clear()
    assert sweep.main([*words, TWO_SEEDS]) == 0 and len(commands.modules) == 10, "another seed adds its cells"


def test_a_cell_tells_how_it_came_about(words: list[str], commands: StandIn, tmp_path: Path) -> None:
    sweep.main(words)
    cell = json.loads((tmp_path / "sweep/results/fedvssl_09_1-seed1-split1.json").read_text())
    assert list(cell) == ["pretrain", "retrieval", "linear_probe", "finetune"]
    assert cell["pretrain"]["metrics"] == {"first_loss": 9.0, "loss": 8.0}
    curves = cell["pretrain"]["curves"]
    assert curves["loss"] == [[1, 9.0], [2, 8.0]] and {*curves} == {"loss", "trivial_still", "iou", "iou_still"}
    assert cell["finetune"]["metrics"] == {"top1_acc": 0.7, "top5_acc": 1.0, "mean_class_acc": 0.6}
    assert cell["finetune"]["intervals"] == {"top1_acc": [0.6, 0.8]} and cell["finetune"]["num_test"] == 11
    assert cell["retrieval"]["intervals"] == {"R@1": [0.4, 0.6]} and cell["retrieval"]["num_test"] == 11
    assert "strategy.mix_coeff=0.9" in cell["pretrain"]["commands"][0] and len(cell["finetune"]["commands"]) == 3
    assert "cores" in cell["retrieval"]["machine"] and cell["retrieval"]["seconds"] >= 0
    from_scratch = json.loads((tmp_path / "sweep/results/scratch-seed1-split1.json").read_text())["finetune"]
    assert "from_scratch=true" in from_scratch["commands"][0] and len(from_scratch["commands"]) == 2


def test_lost_weights_are_made_again_for_what_is_still_open(
    words: list[str], commands: StandIn, tmp_path: Path
) -> None:
    sweep.main([*words, "measures.finetune.rows=[]"])
    commands.modules.clear()
    (weights,) = (tmp_path / "sweep").glob("*/pretrain/round-2-weights.npz")
    weights.unlink()
    assert sweep.main([*words, "measures.finetune.rows=[]"]) == 0 and not commands.modules
    assert sweep.main(words) == 0
    assert commands.modules == ["main", "finetune", "test", "finetune_preprocess", "finetune", "test"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("overrides.main=['pool_size=3','rounds=3']", r"pretrain of other settings, rounds was 2 and is 3 now"),
        ("overrides.all=['model.depth=10']", r"retrieval of other settings, model\.depth was 18 and is 10 now"),
        ("overrides.finetune=['training.epochs=9']", r"training\.epochs was 150 and is 9 now"),
        ("overrides.main=['pool_size=3','rounds=2','strategy.max_update_factor=3']", "factor was 10 and is 3 now"),
        ("overrides.main=['pool_size=3','rounds=2','strategy.oversized_updates=clip']", "was reject and is clip now"),
    ],
)
def test_results_of_other_settings_are_refused_before_anything_runs(
    change: str, sentence: str, words: list[str], commands: StandIn
) -> None:
    sweep.main(words)
    commands.modules.clear()
    with pytest.raises(ValueError, match=sentence + ".*: give another results_dir and work_dir, or remove it and "):
        sweep.sweep([*words, change])
    assert commands.modules == [] and sweep.main([*words, change]) == 2


def test_other_lists_are_refused_and_another_place_of_the_same_is_not(
    words: list[str], commands: StandIn, data_dir: Path, tmp_path: Path
) -> None:
    sweep.main(words)
    moved = tmp_path / "moved"
    (moved / "ucf101").mkdir(parents=True)
    (moved / "ucf101/zips").symlink_to(data_dir / "ucf101/zips")
    for path in (data_dir / "ucf101/annotations").rglob("*.json"):
        write_annotations(moved / path.relative_to(data_dir), read_annotations(path))
    commands.modules.clear()
    assert sweep.main([*words, f"data_dir={moved}"]) == 0 and commands.modules == []
    write_annotations(moved / "ucf101/annotations/client_distribution/client_dist2.json", [Annotation("a/b", 0)])
    with pytest.raises(ValueError, match=r"contents of client_dist2\.json differ now"):
        sweep.sweep([*words, f"data_dir={moved}"])


def test_another_start_of_pre_training_is_refused_and_another_place_of_it_is_not(
    words: list[str], commands: StandIn, tmp_path: Path
) -> None:
    for name, content in {"a": b"1", "moved": b"1", "b": b"2"}.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
    from_a, moved, from_b, nowhere = (
        [*words, f"overrides.main=['pool_size=3','rounds=2','init={tmp_path}/{name}.npz']"]
        for name in ("a", "moved", "b", "nowhere")
    )
    assert sweep.main(from_a) == 0
    commands.modules.clear()
    assert sweep.main(moved) == 0 and commands.modules == []
    for other in (from_b, words):
        with pytest.raises(ValueError, match="contents of init differ now"):
            sweep.sweep(other)
    with pytest.raises(ValueError, match=r"No file .*nowhere\.npz: init in overrides\.main"):
        sweep.sweep(nowhere)


def test_a_failure_is_told_in_one_line_and_the_rest_goes_on(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    stand_in = StandIn(fails="strategy.swbeta=1")
    monkeypatch.setattr(sweep, "run_child", stand_in)
    assert sweep.main(words) == 1
    assert stand_in.modules == ["retrieval", "linear_probe", "main", "finetune", "test"]
    printed = capsys.readouterr()
    (line,) = [line for line in printed.out.splitlines() if "failed: " in line]
    assert "fedvssl_09_1-seed1-split1 pretrain failed: exit code 2, error: no such thing." in line
    log = tmp_path / "sweep/logs/fedvssl_09_1-seed1-split1-pretrain.log"
    assert str(log) in line and log.read_text().startswith("$ python -m fedvssl.main ")
    assert "| FedVSSL (0.9, 1) | open | open |" in printed.out
    stand_in.fails = "nothing"
    assert sweep.main(words) == 0, "the same command tries it again"


def test_a_command_that_leaves_nothing_has_failed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "run_child", lambda command, **_: 0)
    assert sweep.main(words) == 1


def test_the_table_has_means_deviations_and_open_cells(words: list[str], commands: StandIn, tmp_path: Path) -> None:
    sweep.main([*words, TWO_SEEDS, "rows.scratch=null"])
    results = tmp_path / "sweep/results"
    for seed in (1, 2):
        path = results / f"fedvssl_09_1-seed{seed}-split1.json"
        cell = json.loads(path.read_text())
        path.write_text(json.dumps({kind: cell[kind] for kind in list(cell)[: 1 + seed]}))
    (results / "random-seed2-split1.json").unlink()
    settings = sweep.read(compose("sweep", [*words, TWO_SEEDS, "rows.scratch=null"]))
    plans = [Plan(settings, free=sweep.FREE)]
    sweep.write_tables(settings, plans, [step for seed in (1, 2) for step in plans[0].steps(seed)])

    own = "| FedVSSL (0.9, 1) | 55.00 +- 7.07 | 80.00 +- 0.00 | 90.00 +- 0.00 | "
    lines = (results / "table.md").read_text().splitlines()
    assert lines[2].startswith("| random weights | 30.00 [20.0, 40.0] (1 of 2) |")
    assert lines[2].endswith("| - | - | - |")
    assert lines[3].startswith(own + "50.00 [40.0, 60.0] (1 of 2) | open |")
    assert lines[-1].startswith("| chance | 33.") and "| 33.33 |" in lines[-1]
    latex = (results / "table.tex").read_text()
    assert r"FedVSSL (0.9, 1) & 55.00 $\pm$ 7.07 &" in latex and latex.count(r"\\") == len(lines) - 1
    with (results / "table.csv").open() as file:
        rows = {(line["row"], line["column"]): line for line in csv.DictReader(file)}
    assert rows["FedVSSL (0.9, 1)", "retrieval R@50"]["mean"] == "1.000000", "also what is not for reading"
    open_cell = rows["FedVSSL (0.9, 1)", "finetune top1_acc"]
    assert (open_cell["mean"], open_cell["done"], open_cell["planned"]) == ("open", "0", "2")
    assert ("random weights", "finetune top1_acc") not in rows
    assert (results / "table.png").read_bytes().startswith(b"\x89PNG"), "of the whole sweep"


def test_a_partition_with_test_videos_of_the_split_is_refused(words: list[str], tmp_path: Path, data_dir: Path) -> None:
    tested = read_annotations(data_dir / "ucf101/annotations/test_split_1.json")
    for number in (1, 2, 3):
        write_annotations(tmp_path / f"client_dist{number}.json", tested[:2])
    with pytest.raises(
        ValueError,
        match=r"1\.json has 2 of the 11 test videos of split 1, such as .*: make a partition of train_split_1",
    ):
        planned([*words, f"overrides.main={as_list(['pool_size=3', 'rounds=2', f'partition_dir={tmp_path}'])}"])


def test_every_list_of_a_folder_is_compared_once_a_row_reads_it(
    words: list[str], tmp_path: Path, data_dir: Path
) -> None:
    """A row with one client reads the first list, a later one with three finds test videos in the third."""
    train, tested = (
        read_annotations(data_dir / f"ucf101/annotations/{part}_split_1.json") for part in ("train", "test")
    )
    for number, videos in enumerate((train, train, tested), start=1):
        write_annotations(tmp_path / f"client_dist{number}.json", videos[:2])
    own = [word for word in words if not word.startswith(("overrides.main", "rows.fedavg"))]
    main = f"overrides.main={as_list(['rounds=2', f'partition_dir={tmp_path}'])}"
    rows = ["rows.fedavg.overrides=['pool_size=1']", "rows.fedvssl_09_1.overrides=['pool_size=3']"]
    with pytest.raises(ValueError, match=r"client_dist3\.json has 2 of the 11 test videos"):
        planned([*own, main, *rows])


def test_rows_that_may_see_test_videos_say_so_in_every_table(
    words: list[str], commands: StandIn, tmp_path: Path, data_dir: Path
) -> None:
    tested = read_annotations(data_dir / "ucf101/annotations/test_split_1.json")
    for number in (1, 2, 3):
        write_annotations(tmp_path / f"lists/client_dist{number}.json", tested[:2])
    commands.seen = {"seen": {"pre-training": 2}}
    main = f"overrides.main={as_list(['pool_size=3', 'rounds=2', f'partition_dir={tmp_path}/lists'])}"
    assert sweep.main([*words, main, "data.allow_test_videos=true"]) == 0
    assert all("data.allow_test_videos=True" in own for own in with_data(commands))
    for name in ("table.md", "table.csv", "table.tex"):
        text = (tmp_path / "sweep/results" / name).read_text()
        assert "FedVSSL (0.9, 1) (trained on test videos)" in text and "from scratch (trained" not in text
    cell = json.loads((tmp_path / "sweep/results/fedvssl_09_1-seed1-split1.json").read_text())
    assert cell["retrieval"]["seen"] == cell["finetune"]["seen"] == {"pre-training": 2}


def test_evaluations_during_the_pre_training_are_no_losses(words: list[str], commands: StandIn, tmp_path: Path) -> None:
    """With eval.every the first and the last record of a run are those of evaluations."""
    main = f"overrides.main={as_list(['pool_size=3', 'rounds=2', 'eval.every=2'])}"
    assert sweep.main([*words, main, "measures.finetune.rows=[]"]) == 0
    cell = json.loads((tmp_path / "sweep/results/fedvssl_09_1-seed1-split1.json").read_text())
    assert cell["pretrain"]["metrics"] == {"first_loss": 9.0, "loss": 8.0}


@pytest.fixture
def held_out(words: list[str], data_dir: Path, tmp_path: Path) -> list[str]:
    """Overrides with validation videos; the clients share the training list."""
    listed = read_annotations(data_dir / "ucf101/annotations/train_split_1.json")
    for number in range(3):
        write_annotations(tmp_path / f"lists/client_dist{number + 1}.json", listed[number::3])
    main = as_list(["pool_size=3", "rounds=2", f"partition_dir={tmp_path}/lists"])
    kept = [word for word in words if not word.startswith(("overrides.main", "rows.centralised"))]
    return [*kept, f"overrides.main={main}", "data.validation=0.5", "data.validation_seed=4"]


def with_data(commands: StandIn) -> list[list[str]]:
    """Words of the commands that read the data."""
    return [words for words in commands.words if any(word.startswith("data_dir=") for word in words)]


def test_without_validation_videos_the_commands_are_told_so(words: list[str], commands: StandIn) -> None:
    assert sweep.main(words) == 0
    assert commands.words and all("data.validation=null" in own for own in with_data(commands))
    assert commands.modules[0] == "retrieval"
    assert compose("retrieval", commands.words[0])["data"]["validation"] is None, "not the word None"


def test_validation_videos_reach_every_command_and_no_client(
    held_out: list[str], commands: StandIn, tmp_path: Path, data_dir: Path
) -> None:
    assert sweep.main(held_out) == 0
    assert {"main", "retrieval", "linear_probe", "finetune", "test"} <= {*commands.modules}
    assert all({"data.validation=0.5", "data.validation_seed=4"} <= {*own} for own in with_data(commands))
    train, validation = hold_out(read_annotations(data_dir / "ucf101/annotations/train_split_1.json"), 0.5, seed=4)
    folders = [*(tmp_path / "sweep").glob("*-seed1-split1/clients")]
    assert len(folders) == 2 and validation
    for folder in folders:
        own = [video for number in (1, 2, 3) for video in read_annotations(folder / f"client_dist{number}.json")]
        assert sorted(own, key=str) == sorted(train, key=str)
    pool = read_annotations(tmp_path / "sweep/centralised-seed1-split1/pool/client_dist1.json")
    assert sorted(pool, key=str) == sorted(train, key=str)
    trained = {word for words in commands.words for word in words if word.startswith("partition_dir=")}
    assert f"partition_dir={folders[0]}" in trained and f"partition_dir={folders[1]}" in trained


def test_results_on_validation_videos_are_marked(
    held_out: list[str], commands: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert sweep.main([*held_out, "rows.centralised=null"]) == 0
    cell = json.loads((tmp_path / "sweep/results/fedvssl_09_1-seed1-split1.json").read_text())
    parts = {kind: result.get("part") for kind, result in cell.items()}
    assert parts == {"pretrain": None, **dict.fromkeys(("retrieval", "linear_probe", "finetune"), "validation")}
    assert cell["retrieval"]["settings"]["data.validation"] == 0.5
    printed = capsys.readouterr().out
    assert "| R@1 (validation) |" in printed and "interval over the validation videos" in printed
    assert "data.validation=0.5, data.validation_seed=4" in printed
    lines = (tmp_path / "sweep/results/table.csv").read_text().splitlines()
    assert all(line.endswith(",validation") for line in lines[1:])
    assert "(validation)" in (tmp_path / "sweep/results/table.md").read_text()
    with pytest.raises(ValueError, match=r"data\.validation_seed was 4 and is 5 now"):
        sweep.sweep([*held_out, "rows.centralised=null", "data.validation_seed=5"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("rows.random.start=here", r"rows\.random\.start=here is none of: random, scratch, mean_frame"),
        ("+rows.random.override=[]", r"rows\.random has 'override', which is none of: alone, overrides, pooled, start"),
        ("+rows.fedvssl_09_1={alone: 4}", r"rows\.fedvssl_09_1\.alone=4 must be a client, 1 to 3"),
        (
            "+rows.fedvssl_09_1={alone: 1, pooled: true}",
            r"rows\.fedvssl_09_1 is alone, and pooled or with a start",
        ),
        ("+rows.random.alone=1", r"rows\.random is alone, and pooled or with a start"),
        ("+rows.fedvssl_09_1={alone: yes}", r"rows\.fedvssl_09_1\.alone=.* must be the number of a client, from 1"),
        ("rows.fedvssl_09_1.overrides=seed", r"rows\.fedvssl_09_1\.overrides=seed must be a list of words"),
        ("+measures.few={command: knn, columns: {}}", "measures.few needs 'columns'"),
        ("measures.retrieval.rows=random", r"measures\.retrieval\.rows=random must be a list of words"),
        ("+measures.retrieval.baseline=none", r"measures\.retrieval names the row none, which is none of"),
        ("+measures.pretrain={command: finetune, columns: {a: b}}", r"measures\.pretrain: the name is that of pre"),
        (
            "+measures.few={command: base, columns: {a: b}}",
            r"measures\.few needs a command: .*; base is none",
        ),
        ("overrides.finetune=['labels_per_class=0']", r"labels_per_class=0 must be a whole number from 1"),
        ("baseline=fedavgm", r"baseline=fedavgm is none of the rows: mean_frame, random"),
        ("+measures.retrieval.row=[]", r"measures\.retrieval has 'row', which is none of: baseline, columns"),
        ("+measures.knn={rows: null}", r"measures\.knn needs 'columns'"),
        (
            "+measures.few={command: finetune, overrides: ['labels=1'], columns: {top1_acc: few}}",
            "Could not override 'labels'",
        ),
        (
            "measures.finetune.rows=[none]",
            r"measures\.finetune names the row none, which is none of: mean_frame, random",
        ),
        ("seeds=7", r"seeds=7 must be a list of whole numbers"),
        ("splits=[]", r"splits=\[\] must be a list"),
        ("overrides.main=['rownds=2']", "rownds"),
        ("no_such_key=1", "no_such_key"),
        ("+rows={../../evil: {start: random}}", r"rows: the name '../../evil-seed\d-split1' leads outside the folder"),
        (
            "+measures={../evil: {command: knn, columns: {a: b}}}",
            r"measures: the name '../evil' leads outside the folder",
        ),
    ],
)
def test_mistakes_get_a_sentence(change: str, sentence: str, words: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(ValueError, match=sentence):
        sweep.sweep([*words, change])
    assert sweep.main([*words, change]) == 2 and capsys.readouterr().err.startswith("error: ")


@pytest.mark.slow
@pytest.mark.ray
def test_the_real_commands_end_to_end(words: list[str], tmp_path: Path) -> None:
    recipe = [word for word in TINY_FINETUNING if word.startswith("training")]
    recognition = [w for w in TINY_FINETUNING if not w.startswith(("training", "model", "train_sample", "data"))]
    sizes = "train_sample.sizes=[[43,32],[48,36]]"
    pretraining = [*TINY_PRETRAINING, "pool_size=3", "strategy.min_fit_clients=3"]
    overrides = [
        f"overrides.main={as_list(w for w in pretraining if not w.startswith('model'))}",
        f"overrides.recognition={as_list(recognition)}",
        f"overrides.finetune={as_list([*recipe, sizes])}",
        "overrides.all=['model.depth=10','model.width=4']",
    ]
    own = [word for word in words if not word.startswith("overrides")]
    command = [sys.executable, "-m", "fedvssl.sweep", *own, *overrides]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "step 7/7" in first.stdout and "open" not in (tmp_path / "sweep/results/table.md").read_text()
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 0 and "step" not in second.stdout
    assert "| FedVSSL (0.9, 1) |" in second.stdout and first.stdout.endswith(second.stdout), "the same table"


def as_list(words: Any) -> str:
    """Overrides as the value of one: quoted, for they have commas and brackets of their own."""
    return "[" + ",".join(f"'{word}'" for word in words) + "]"

"""The sweep: its plan, what a second start skips or refuses, failures, tables; the commands are stood in for."""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fedvssl import sweep
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation, read_annotations, write_annotations
from fedvssl.files.ending import run_child
from fedvssl.sweeping.plan import Cell, Plan, Step
from tests.action_set import TINY as TINY_FINETUNING
from tests.federation import TINY as TINY_PRETRAINING
from tests.stand_in import StandIn

TWO_SEEDS = "seeds=[1,2]"


def planned(words: list[str]) -> list[Step]:
    settings = sweep.read(compose("sweep", words))
    return [step for seed in settings.seeds for step in Plan(settings, free=sweep.FREE).steps(seed)]


def test_every_table_has_its_rows_and_each_is_measured_by_what_fits_it(data_dir: Path, tmp_path: Path) -> None:
    steps = planned([f"data_dir={data_dir}", f"work_dir={tmp_path}", "overrides.main=['pool_size=3']", TWO_SEEDS])
    assert Counter(step.kind for step in steps) == {
        **{"pretrain": 2 * 9, "retrieval": 2 * 12, "linear_probe": 2 * 12, "motion_probe": 2 * 12, "finetune": 2 * 10}
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


def test_each_baseline_is_read_from_its_own_row(words: list[str], commands: StandIn, tmp_path: Path) -> None:
    left_out = {"rows.mean_frame=null", "rows.random_initial=null"}
    assert sweep.main([word for word in words if word not in left_out]) == 0
    found = {}
    for row in ("mean_frame", "random", "random_initial"):
        cell = json.loads((tmp_path / f"sweep/results/{row}-seed1-split1.json").read_text())
        found[row] = cell["retrieval"]["metrics"]["R@1"], cell["retrieval"]["right"]["R@1"].count("1")
        assert {*cell} == {"retrieval", "linear_probe"}
    assert found == {"mean_frame": (0.25, 3), "random": (0.3, 4), "random_initial": (0.2, 3)}


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
    precisions = (
        "overrides.main=['pool_size=3','rounds=2','training.precision=bf16-mixed']",
        "overrides.recognition=['precision=32-true']",
    )
    sweep.main([*words, *precisions])
    cell = json.loads((tmp_path / "sweep/results/fedvssl_09_1-seed1-split1.json").read_text())
    assert list(cell) == ["pretrain", "retrieval", "linear_probe", "finetune"]
    assert cell["pretrain"]["metrics"] == {"first_loss": 9.0, "loss": 8.0}
    curves = cell["pretrain"]["curves"]
    assert curves["loss"] == [[1, 9.0], [2, 8.0]] and {*curves} == {"loss", "trivial_still", "iou", "iou_still"}
    assert cell["finetune"]["metrics"] == {"top1_acc": 0.7, "top5_acc": 1.0, "mean_class_acc": 0.6}
    assert cell["finetune"]["intervals"] == {"top1_acc": [0.6, 0.8]} and cell["finetune"]["num_test"] == 11
    assert cell["retrieval"]["intervals"] == {"R@1": [0.4, 0.6]} and cell["retrieval"]["num_test"] == 11
    assert "strategy.mix_coeff=0.9" in cell["pretrain"]["commands"][0] and len(cell["finetune"]["commands"]) == 3
    told = {kind: step["machine"].split(", ")[3] for kind, step in cell.items()}
    assert told.pop("pretrain") == "bf16-mixed" and {*told.values()} == {"32-true"}, "their own, not this machine's"
    assert cell["retrieval"]["seconds"] >= 0 and cell["retrieval"]["processor_seconds"] >= 0
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
    assert lines[2].startswith("| random weights | 30.00 [15.2, 64.6] (1 of 2) |"), "of 4 in 11"
    assert lines[2].endswith("| - | - | - |")
    assert lines[3].startswith(own + "50.00 [28.0, 78.7] (1 of 2) | open |")
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


def test_evaluations_during_the_pre_training_are_no_losses(words: list[str], commands: StandIn, tmp_path: Path) -> None:
    """With eval.every the first and the last record of a run are those of evaluations."""
    main = f"overrides.main={as_list(['pool_size=3', 'rounds=2', 'eval.every=2'])}"
    assert sweep.main([*words, main, "measures.finetune.rows=[]"]) == 0
    cell = json.loads((tmp_path / "sweep/results/fedvssl_09_1-seed1-split1.json").read_text())
    assert cell["pretrain"]["metrics"] == {"first_loss": 9.0, "loss": 8.0}


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
    table = second.stdout.partition("\n\n")[2]  # below the lines of progress
    assert "| FedVSSL (0.9, 1) |" in table and first.stdout.endswith(table), "the same table"


def as_list(words: Any) -> str:
    """Overrides as the value of one: quoted, for they have commas and brackets of their own."""
    return "[" + ",".join(f"'{word}'" for word in words) + "]"


def test_processor_seconds_are_those_of_the_commands_that_have_ended() -> None:
    before = sweep.processor_seconds()
    run_child([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"])
    assert 0.25 <= sweep.processor_seconds() - before < 5  # in hundredths of a second

"""Paired differences of a sweep, in its file and its names."""

import json
from pathlib import Path

import pytest

from fedvssl import sweep
from fedvssl.evaluation.intervals import Difference, paired_difference
from fedvssl.sweeping.differences import Compared
from tests.stand_in import StandIn

TWO_SEEDS = "seeds=[1,2]"


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
    expected = f"-27.3 [{100 * low:.1f}, {100 * high:.1f}]{f'; {below} of 3 below' if below else ''} |"
    (random,) = [line for line in lines if line.startswith("| random weights")]
    same = "+0.0 [0.0, 0.0]"
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
    assert " (1 of 2 done) |" in line
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


def test_without_a_baseline_nothing_is_compared(words: list[str], commands: StandIn, tmp_path: Path) -> None:
    assert sweep.main([*words, "baseline=null"]) == 0
    assert "No row is compared" in (tmp_path / "sweep/results/differences.md").read_text()


@pytest.mark.parametrize(
    ("runs", "planned", "text"),
    [
        ([], 0, "-"),
        ([], 2, "open"),
        ([Difference(0.1, 0.05, 0.15)], 1, "+10.0 [5.0, 15.0]; 1 of 1 above"),
        ([Difference(0.1, 0.05, 0.15)] * 2, 3, "+10.0 [5.0, 15.0]; 2 of 2 above (2 of 3 done)"),
        (
            [Difference(0.1, 0.05, 0.15), Difference(-0.1, -0.2, -0.05)],
            2,
            "+0.0 [-127.1, 127.1]; 1 of 2 above, 1 of 2 below",
        ),
        ([Difference(0.0, -0.1, 0.1)] * 3, 3, "+0.0 [-10.0, 10.0]"),
    ],
)
def test_texts_of_a_cell(runs: list[Difference], planned: int, text: str) -> None:
    assert Compared(runs, planned).text() == text

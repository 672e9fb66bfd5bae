"""The facts of FedU, FedEMA and L-DAWA on pictures: in the records of a real run, and drawn in its report."""

import html
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedvssl import report
from fedvssl.client.training import LocalTraining
from fedvssl.config import compose
from fedvssl.files.run_log import read_records
from fedvssl.main import run
from fedvssl.reporting.folders import read_pretraining
from fedvssl.reporting.learning import LIFE, taken
from fedvssl.strategy.rule import When
from tests.run_folders import round_records, write_lines, write_pretraining
from tests.test_stopped_pictures import CLIENTS, METHODS, ROUNDS, TINY, write_places

TOOK = "Own share that each client took in a round"
FACTS = {
    "fedu": ("divergence", "own_share"),
    "fedema": ("divergence", "own_share", "scaler"),
    "ldawa": ("alignment",),
}
PREDICTOR = "predictor.out.weight"


@pytest.fixture(scope="module", params=FACTS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Name of the method, folder of its run, and what clients took: {(client, round): own share of the predictor}."""
    folder, own = tmp_path_factory.mktemp(request.param), {}
    real = LocalTraining.train

    def look(self: LocalTraining, arrived: Any, order: Any, kept: Any, **options: Any) -> Any:
        start = self.rule.receive(arrived, kept, self.initial, When(order.server_round, order.kept_round))
        way, gone = ((a[PREDICTOR] - arrived[PREDICTOR]).ravel() for a in ({**arrived, **kept}, start))
        own[options["videos"].partition_id, order.server_round] = float(gone @ way) / (float(way @ way) or 1.0)
        return real(self, arrived, order, kept, **options)

    (run_dir := folder / "run").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalTraining, "train", look)
        run(compose("base", [*TINY, *write_places(folder), *METHODS[request.param]]), run_dir=run_dir)
    return request.param, run_dir, own


def test_the_facts_of_a_method_are_recorded_and_drawn(finished: Any, capsys: pytest.CaptureFixture[str]) -> None:
    name, run_dir, _ = finished
    records = read_records(run_dir / "metrics.jsonl")
    first = 2 if name == "ldawa" else 1  # which begins with a round of FedAvg
    told = [r for r in records if "partition_id" in r and r["server_round"] >= first]
    assert len(told) == CLIENTS * (ROUNDS + 1 - first)
    assert all(isinstance(record[fact], float) for record in told for fact in FACTS[name])
    assert report.main([str(run_dir)]) == 0
    page = html.unescape((run_dir / "report.html").read_text())
    for fact, (title, _) in LIFE.items():
        if fact in ("divergence", "alignment", "own_share", "scaler"):
            assert (f"<figcaption>{title}" in page) is (fact in FACTS[name]), fact
        if fact in FACTS[name]:
            drawn = page.split(f"<figcaption>{title}", 1)[1].split("</svg>")[0]
            assert all(f">{words}<" in drawn for words in ("client 1", "client 3", "global"))
    assert (f"<figcaption>{TOOK}" in page) is ("own_share" in FACTS[name])
    capsys.readouterr()


def test_the_chart_tells_what_a_client_took(finished: Any) -> None:
    name, run_dir, own = finished
    shares = taken(read_pretraining(run_dir))
    assert shares.shape == (CLIENTS, ROUNDS) and len(own) == CLIENTS * ROUNDS
    for (client, server_round), share in own.items():
        assert shares[client, server_round - 1] == pytest.approx(share, abs=1e-3)
    kinds = {"fedu": shares[:, 1:] == 1, "fedema": (shares > 0.01) & (shares < 0.99), "ldawa": shares != 0}
    assert kinds[name].any() is np.bool_(name != "ldawa")


@pytest.mark.parametrize("selective", [False, True])
def test_a_client_that_missed_a_round_or_lost_its_file(tmp_path: Path, selective: bool) -> None:
    words = ("strategy=fedema", f"strategy.rule.selective={selective}")
    run_dir = write_pretraining(tmp_path, evaluated=False, overrides=words)
    lines = []
    for number in (1, 2, 3, 4):
        total, *clients = round_records(number, evaluated=False)
        asked = [r for r in clients if (r["partition_id"], number) != (2, 2)]
        lines += [{**r, "own_share": number / 10 + r.get("partition_id", 0) / 100} for r in (total, *asked)]
        lines += [{"server_round": 3, "lost_kept": [1]}] * (number == 3)
    write_lines(run_dir / "metrics.jsonl", lines)
    shares = taken(read_pretraining(run_dir))
    missed = 0 if selective else 0.12
    expected = [[0, 0.1, 0.2, 0.3], [0, 0.11, 0.21, 0], [0, np.nan, missed, 0.32]]
    np.testing.assert_allclose(shares, expected)


def test_a_round_whose_own_record_is_damaged(tmp_path: Path) -> None:
    run_dir = write_pretraining(tmp_path, evaluated=False, overrides=("strategy=fedu",))
    lines = [{**r, "own_share": 1.0} for number in (1, 2) for r in round_records(number, evaluated=False)]
    write_lines(run_dir / "metrics.jsonl", [r for r in lines if r["server_round"] == 1 or "partition_id" in r])
    np.testing.assert_array_equal(taken(read_pretraining(run_dir)), [[0, 1]] * 3)

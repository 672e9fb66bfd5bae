"""Split learning with clients elsewhere: frozen ones answer one message a round, others are refused with hours."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message

from fedvssl.apps import client_app
from fedvssl.served_run import serve_run
from fedvssl.wire.wire import STEP, FederationError
from tests.federation import LocalGrid
from tests.picture_set import write_picture_set
from tests.split.federation import MOCOSFL, SPLIT, files_of, settings_of, train

FROZEN = ("strategy.frozen=true", "strategy.steps_per_message=0")
WIDTH = "model.width=8"  # four channels corrupt memory, see tests/split/test_commands.py
ELSEWHERE = ("engine", "client_resources", "training.num_workers")
SUBMITTED = [word for word in (*SPLIT, WIDTH) if not word.startswith(ELSEWHERE)]


class Nodes:
    """Two nodes in this process, and a count of the messages that they get."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, write_picture_set(folder / "data") / "cifar10"
        self.messages = Counter[str]()

    def told(self, partition_id: int) -> dict[str, Any]:
        own_list = self.data / f"annotations/client_distribution/client_dist{partition_id + 1}.json"
        places = {"media-dir": str(self.data / "pictures"), "list": str(own_list), "device": "cpu"}
        return {"partition-id": partition_id, **places, "state-dir": str(self.folder / f"node{partition_id}")}

    def submit(self, *words: str, strategy: tuple[str, ...] = MOCOSFL) -> Path:
        def app(message: Message, context: Context) -> Message:
            self.messages[message.metadata.message_type] += 1
            return client_app(message, context)

        grid = LocalGrid(app, 2, told=self.told)  # pyright: ignore[reportArgumentType]
        serve_run(grid, " ".join([*SUBMITTED, *strategy, "start_timeout=1", *words]), "run")
        return Path("outputs/run").absolute()


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Nodes:
    caplog.set_level(logging.INFO)
    nodes = Nodes(tmp_path)
    (tmp_path / "server").mkdir()
    monkeypatch.chdir(tmp_path / "server")
    return nodes


def test_frozen_clients_give_the_arrays_of_one_process_with_a_message_a_round(nodes: Nodes) -> None:
    run = nodes.submit(*FROZEN)
    assert nodes.messages[STEP] == 2 * 2, "two clients, two rounds of three steps"
    train(settings_of(nodes.folder / "data", WIDTH, *FROZEN), nodes.folder / "local")
    found, expected = files_of(run), files_of(nodes.folder / "local")
    assert {f"round-{number}-{kind}.npz" for number in (1, 2) for kind in ("weights", "strategy")} == found.keys()
    moved = [not np.array_equal(a, found["round-2-weights.npz"][n]) for n, a in found["round-1-weights.npz"].items()]
    assert any(moved)
    for path, arrays in found.items():
        assert arrays.keys() == expected[path].keys()
        for name, array in arrays.items():
            np.testing.assert_allclose(array, expected[path][name], rtol=1e-5, atol=1e-6, err_msg=f"{path} {name}")


@pytest.mark.parametrize(
    ("words", "strategy", "sentences"),
    [
        (
            ("rounds=10000",),
            MOCOSFL,
            (
                "10000 rounds of 3 steps are 50,000 messages",
                "at least 14 hours",
                "set strategy.frozen=true",
            ),
        ),
        (
            ("rounds=1200", "strategy.frozen=true"),
            MOCOSFL,
            ("1200 rounds of 3 steps are 3,600 messages", "at least 1.00 hours", "set strategy.steps_per_message=0"),
        ),
        (
            ("model.bottleneck=C4S2",),
            ("strategy=taressfl_expert", "strategy.target_ssim=0", "strategy.attacker_steps=[1]"),
            ("Pictures leave no client", "engine=local"),
        ),
    ],
)
def test_what_is_not_for_a_network_is_one_sentence_and_trains_nothing(
    words: tuple[str, ...], strategy: tuple[str, ...], sentences: tuple[str, ...], nodes: Nodes
) -> None:
    with pytest.raises(FederationError) as caught:
        nodes.submit(*words, strategy=strategy)
    assert all(sentence in str(caught.value) for sentence in sentences) and "\n" not in str(caught.value)
    assert nodes.messages == {"query": 2} and not list(Path("outputs/run").glob("round-*"))


def test_the_same_run_goes_on_with_frozen_clients_after_the_refusal(nodes: Nodes) -> None:
    with pytest.raises(FederationError, match="Over a network"):
        nodes.submit("rounds=1")
    assert (nodes.submit("rounds=1", *FROZEN) / "round-1-weights.npz").is_file()

"""Messages to a client and back; what it does is in tests/client."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedvssl.client_app import answer, introduce
from fedvssl.wire.record import pack
from tests.federation import client_of, order_of, sent_arrays, tiny_config, write_clients


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    data_dir = tmp_path_factory.mktemp("data")
    write_clients(data_dir)
    return tiny_config(data_dir)


def test_a_message_to_train_gives_the_arrays_and_facts_of_the_client(config, tmp_path: Path) -> None:
    arrays, order = sent_arrays(config), order_of(config)
    message = Message(RecordDict({"arrays": pack(arrays), "config": ConfigRecord(order)}), 5, "train")
    reply: Any = answer(message, client=client_of(config, tmp_path / "a", 1)).content
    trained, facts = client_of(config, tmp_path / "b", 1).answer("train", arrays, order)
    assert list(reply["arrays"]) == list(arrays)
    for name, array in trained.items():
        np.testing.assert_array_equal(reply["arrays"][name].numpy(), array)
    assert reply["metrics"].keys() == facts.keys() and reply["metrics"]["loss"] == facts["loss"]


def test_an_introduction_is_a_message_or_an_error_of_one_line(config, tmp_path: Path) -> None:
    query = Message(RecordDict(), 5, "query")
    reply: Any = introduce(query, client=client_of(config, tmp_path, 2))
    assert dict(reply.content["client"]) == {"partition-id": 2, "num-examples": 5}
    lost = introduce(query, client=client_of(config, tmp_path, 9))
    assert "client_dist10.json" in str(lost.error.reason) and "\n" not in str(lost.error.reason)


def test_a_failure_is_an_error_of_one_line(config, tmp_path: Path) -> None:
    order = ConfigRecord({**order_of(config), "kept-round": 4})
    message = Message(RecordDict({"arrays": pack(sent_arrays(config)), "config": order}), 5, "train")
    reply = answer(message, client=client_of(config, tmp_path, 0))
    assert "kept-round-4.npz" in str(reply.error.reason) and "\n" not in str(reply.error.reason)
    empty = answer(Message(RecordDict(), 5, "train"), client=client_of(config, tmp_path, 0))
    assert str(empty.error.reason).startswith("KeyError: ") and "\n" not in str(empty.error.reason)

import logging
from pathlib import Path
from typing import Any

import pytest

from fedvssl.wire.introductions import Client, Introductions, read_clients


def heard(introductions: Introductions, *said: tuple[int, Any, Any]) -> dict[int, int]:
    """One round in which these nodes are there: (node id, partition id, number of videos) of each."""
    asked = introductions.begin([node_id for node_id, *_ in said])
    for node_id, partition_id, num_examples in said:
        if node_id in asked:
            facts = {"partition-id": partition_id, "num-examples": num_examples}
            introductions.hear(node_id, lambda facts=facts: facts)
    return introductions.settle([node_id for node_id, *_ in said])


@pytest.fixture
def lines(caplog) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, logger="fedvssl")
    return caplog


@pytest.mark.parametrize("partition_id", [-1, 3, 77, 2**63, 1.0, "1", [1], True, None])
def test_a_partition_id_is_a_whole_number_below_the_number_of_clients(partition_id, lines):
    assert heard(Introductions(3), (8, 0, 5), (9, partition_id, 5)) == {8: 0}
    (line,) = lines.messages
    assert line.startswith("node 9 cannot take part: its partition-id is ") and "from 0 to 2" in line


@pytest.mark.parametrize("num_examples", [0, -1, 2**53, 5.0, float("inf"), True, "5", None])
def test_a_number_of_videos_is_a_whole_number(num_examples, lines):
    assert heard(Introductions(3), (8, 0, 2**53 - 1), (9, 1, num_examples)) == {8: 0}
    assert len(lines.messages) == 1 and "its num-examples is " in lines.text


def test_an_error_or_no_introduction_at_all_leaves_a_node_out(lines):
    def fail() -> dict:
        raise ValueError("no\nlist")

    introductions = Introductions(2)
    for introduce in (fail, dict, lambda: None):
        introductions.begin([9])
        introductions.hear(9, introduce)  # pyright: ignore[reportArgumentType]
        assert introductions.settle([9]) == {}
    assert [line.removeprefix("node 9 cannot take part: ")[:22] for line in lines.messages] == [
        *("no list", "its partition-id is No", "AttributeError: 'NoneT")
    ]


def test_a_silent_node_is_named_once(lines):
    introductions = Introductions(2)
    for _ in range(2):
        assert introductions.begin([9]) == [9]
        assert introductions.settle([9]) == {}
    assert lines.messages == ["node 9 cannot take part: it does not introduce itself in time"]


def test_at_first_contact_both_nodes_of_one_client_are_left_out_and_stay_so(lines):
    introductions = Introductions(3)
    for _ in range(2):
        assert heard(introductions, (7, 0, 5), (8, 1, 5), (9, 1, 5)) == {7: 0}
    assert len(lines.messages) == 2, "one line each, not in every round"
    assert "several nodes say that they are client 2" in lines.text
    assert heard(introductions, (7, 0, 5), (9, 1, 5)) == {7: 0}, "the other one's absence proves nothing"


def test_of_two_nodes_the_known_one_keeps_its_client(tmp_path: Path, lines):
    first = Introductions(3)
    first.keep_in(tmp_path / "clients.json")
    heard(first, (7, 0, 5), (8, 1, 6))
    assert heard(first, (7, 0, 5), (8, 1, 6), (9, 1, 6)) == {7: 0, 8: 1}
    later = Introductions(3)
    later.keep_in(tmp_path / "clients.json")
    assert heard(later, (9, 1, 6), (8, 1, 6), (7, 0, 5)) == {7: 0, 8: 1}
    assert [line.split(":")[0] for line in lines.messages] == ["node 9 cannot take part"] * 2


def test_a_client_that_is_away_for_a_round_loses_its_place_to_nobody(tmp_path: Path, lines):
    first = Introductions(3)
    first.keep_in(tmp_path / "clients.json")
    heard(first, (7, 0, 5), (8, 1, 6))
    assert heard(first, (7, 0, 5), (9, 1, 6)) == {7: 0}
    assert heard(first, (7, 0, 5), (9, 1, 6), (10, 1, 6)) == {7: 0}
    assert heard(first, (7, 0, 5), (8, 1, 6), (9, 1, 6)) == {7: 0, 8: 1}, "it is back"
    assert lines.messages[0] == ("node 9 cannot take part: client 2 is node 8, which keeps it until the next start")
    assert read_clients(tmp_path / "clients.json") == {0: Client(7, 5), 1: Client(8, 6)}
    later = Introductions(3)
    later.keep_in(tmp_path / "clients.json")
    assert heard(later, (7, 0, 5), (9, 1, 6)) == {7: 0, 9: 1}, "ids of a simulation are new at each start"


def test_a_simulation_gives_clients_other_nodes_at_each_start(tmp_path: Path):
    path = tmp_path / "clients.json"
    for nodes in ((7, 8), (2**63 + 1, 2**64 - 1)):
        introductions = Introductions(2)
        introductions.keep_in(path)
        assert heard(introductions, (nodes[0], 0, 5), (nodes[1], 1, 6)) == dict(zip(nodes, (0, 1), strict=True))
    assert read_clients(path) == {0: Client(2**63 + 1, 5), 1: Client(2**64 - 1, 6)}, "exact beyond 2**53"


def test_the_number_of_videos_is_that_of_the_first_introduction(tmp_path: Path, lines):
    for number in (5, 500):
        introductions = Introductions(1)
        introductions.keep_in(tmp_path / "clients.json")
        assert heard(introductions, (7, 0, number)) == ({7: 0} if number == 5 else {})
    assert introductions.clients == {0: Client(7, 5)}
    assert lines.messages == [
        "node 7 cannot take part: client 1 introduces 500 samples, and 5 when this run began: restore "
        "client_dist1.json, begin another run, or set allow_changes=true"
    ]


def test_a_liar_about_the_number_of_videos_disputes_nothing():
    introductions = Introductions(1)
    introductions.clients = {0: Client(1, 5)}
    assert heard(introductions, (7, 0, 5), (8, 0, 6)) == {7: 0}


def test_a_node_does_not_become_another_client(lines):
    introductions = Introductions(3)
    introductions.clients = {0: Client(7, 5), 1: Client(8, 5)}
    assert heard(introductions, (7, 2, 5), (8, 1, 5)) == {8: 1}
    assert lines.messages == ["node 7 cannot take part: it is client 1 of this run and says that it is client 3"]


def test_a_node_that_tells_no_digest_does_not_have_the_list(lines):
    for changes in (False, True):
        introductions = Introductions(1, allow_changes=changes)
        introductions.clients = {0: Client(7, 5, digest="a" * 64)}
        assert heard(introductions, (8, 0, 5)) == ({8: 0} if changes else {})
    assert "5 samples as when this run began, but in another list" in lines.messages[0]
    assert introductions.clients[0].digest == "" and introductions.clients[0].earlier[0]["list"] == "a" * 64


def test_a_node_that_was_left_out_is_asked_again():
    introductions = Introductions(1)
    assert heard(introductions, (7, 5, 5)) == {}
    assert heard(introductions, (7, 0, 5)) == {7: 0}, "somebody has mended its list"
    assert introductions.begin([7]) == []


@pytest.mark.parametrize("text", ["[", "[1]", '{"0": 1}', '{"a": {"node_id": "1", "num_examples": 1}}', '{"0": {}}'])
def test_a_damaged_file_is_named(text, tmp_path: Path):
    path = tmp_path / "clients.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"clients\.json is damaged .*: name another hydra\.run\.dir, or remove"):
        Introductions(1).keep_in(path)

"""Which head a client goes on with, also where the run's records are damaged."""

import json
import re
from pathlib import Path

import pytest

from fedvssl.files.rounds import accepted_rounds

PATTERN = "whether what clients {} kept of this round counts is lost: restore the file"


def write_run(run_dir: Path, *, damaged: tuple[int, ...] = (), heads: dict[int, list[int]]) -> None:
    """Three rounds of clients 0, 1 and 2; client 1 failed in round 2, client 2 was not asked in round 3.

    Args:
        damaged: numbers of lines.
        heads: rounds by client.
    """
    lines = []
    for server_round, clients in ((1, [0, 1, 2]), (2, [0, 2]), (3, [0, 1])):
        failed = [1] if server_round == 2 else []
        lines.append({"server_round": server_round, "num_clients": len(clients), "failed_partition_ids": failed})
        lines += [{"server_round": server_round, "partition_id": client} for client in clients]
    texts = ["{half" if number in damaged else json.dumps(line) for number, line in enumerate(lines, start=1)]
    (run_dir / "metrics.jsonl").write_text("".join(f"{text}\n" for text in texts))
    for client, rounds in heads.items():
        for server_round in rounds:
            path = run_dir / f"clients/client_{client + 1}/kept-round-{server_round}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


KEPT = {0: [2, 3], 1: [1, 3], 2: [1, 2]}
WHOLE = {0: 3, 1: 3, 2: 2}


def test_each_client_has_the_last_round_that_counted(tmp_path):
    write_run(tmp_path, heads=KEPT)
    assert accepted_rounds(tmp_path, done=3) == WHOLE
    assert accepted_rounds(tmp_path, done=2) == {0: 2, 1: 1, 2: 2}, "client 1 has a head of round 2, which failed"


@pytest.mark.parametrize("line", range(1, 11))
def test_one_damaged_line_never_drops_or_invents_a_head(line, tmp_path):
    """Lines 1, 5 and 8 are those of the rounds."""
    write_run(tmp_path, damaged=(line,), heads=KEPT)
    assert accepted_rounds(tmp_path, done=3) == WHOLE


def test_a_head_that_only_a_failed_reply_explains_is_not_used(tmp_path):
    write_run(tmp_path, damaged=(6,), heads={0: [2], 1: [1, 2], 2: [2]})  # line 6: client 0 in round 2
    assert accepted_rounds(tmp_path, done=2) == {0: 2, 1: 1, 2: 2}


@pytest.mark.parametrize(
    ("damaged", "heads", "clients"),
    [
        ((5, 7), KEPT, "3"),  # the line of round 2 and of client 2: its reply may have failed
        ((9,), {**KEPT, 2: [1, 2, 3]}, "1, 3"),  # client 2 was not asked in round 3: its head is of an abandoned try
    ],
)
def test_what_the_records_do_not_decide_is_refused(damaged, heads, clients, tmp_path):
    write_run(tmp_path, damaged=damaged, heads=heads)
    with pytest.raises(ValueError, match=re.escape(PATTERN.format(clients))):
        accepted_rounds(tmp_path, done=3)


def test_where_no_client_keeps_a_head_any_damage_is_harmless(tmp_path):
    write_run(tmp_path, damaged=(1, 2, 3, 5, 6), heads={})
    assert accepted_rounds(tmp_path, done=3) == WHOLE


def test_the_records_of_a_fine_tuning_are_refused(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n')
    with pytest.raises(ValueError, match="without 'server_round', of another kind of run"):
        accepted_rounds(tmp_path, done=0)

import json
import os
from pathlib import Path

import pytest

from fedvssl.files import earlier_round
from fedvssl.files.earlier_round import go_back
from fedvssl.files.rounds import accepted_rounds, round_path, saved_rounds
from fedvssl.files.run_log import read_records


def write_run(run_dir: Path, *, rounds: int = 4, heads: dict[int, list[int]] | None = None) -> None:
    """A run of two clients that trained in every round; `heads`: rounds whose head a client has."""
    lines = [{"server_round": 0, "R@1": 0.5}]
    for number in range(1, rounds + 1):
        round_path(run_dir, number).write_text(f"weights of {number}")
        lines += [{"server_round": number, "loss": 1.0}]
        lines += [{"server_round": number, "partition_id": client, "loss": 1.0} for client in (0, 1)]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for client, numbers in (heads or {0: [3, 4], 1: [3, 4]}).items():
        for number in numbers:
            path = run_dir / f"clients/client_{client + 1}/kept-round-{number}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"head of {number}")
    (run_dir / "seen_videos.npz").write_text("names")
    (run_dir / "config.yaml").write_text("settings")


def files(folder: Path) -> dict[str, str]:
    found = [path for path in folder.rglob("*") if path.suffix in (".npz", ".jsonl", ".yaml")]
    return {str(path.relative_to(folder)): path.read_text() for path in found}


def test_later_files_and_records_are_set_aside_and_nothing_is_deleted(tmp_path):
    write_run(tmp_path)
    before = files(tmp_path)
    told = go_back(tmp_path, 3)
    assert told == f"Back to round 3: 1 later round files and their records are in {tmp_path / 'before-3'}."
    assert saved_rounds(tmp_path) == [1, 2, 3] and accepted_rounds(tmp_path, done=3) == {0: 3, 1: 3}
    assert max(record["server_round"] for record in read_records(tmp_path / "metrics.jsonl")) == 3
    aside = files(tmp_path / "before-3")
    assert aside["metrics.jsonl"] == before["metrics.jsonl"]
    assert aside["round-4-weights.npz"] == "weights of 4" and len(aside) == 6
    assert (aside["seen_videos.npz"], aside["config.yaml"]) == ("names", "settings"), "of these rounds too"
    assert files(tmp_path)["seen_videos.npz"] == "names"
    assert not list(tmp_path.glob("clients/*/kept-round-4.npz"))


def test_the_same_command_given_again_does_not_go_back_again(tmp_path):
    write_run(tmp_path)
    go_back(tmp_path, 3)
    round_path(tmp_path, 4).write_text("trained anew")
    assert "followed before" in go_back(tmp_path, 3)
    assert round_path(tmp_path, 4).read_text() == "trained anew"
    os.replace(tmp_path / "before-3", tmp_path / "first-try")
    go_back(tmp_path, 3)
    assert (tmp_path / "before-3/round-4-weights.npz").read_text() == "trained anew"


def test_a_client_whose_head_is_gone_starts_from_the_initial_one_and_this_is_told(tmp_path):
    write_run(tmp_path, heads={0: [3, 4], 1: [2, 4]})
    assert go_back(tmp_path, 2).endswith("; 1 clients begin anew with their own part, as that of the time is gone.")
    assert accepted_rounds(tmp_path, done=2) == {1: 2}
    assert read_records(tmp_path / "metrics.jsonl")[-1] == {"server_round": 2, "lost_kept": [0]}


def test_a_whole_model_without_heads_loses_none(tmp_path):
    write_run(tmp_path, heads={0: []})
    assert "begin anew" not in go_back(tmp_path, 1)
    assert accepted_rounds(tmp_path, done=1) == {0: 1, 1: 1}


def test_round_0_is_the_start(tmp_path):
    write_run(tmp_path)
    go_back(tmp_path, 0)
    assert saved_rounds(tmp_path) == [] and len(files(tmp_path / "before-0")) == 11
    assert read_records(tmp_path / "metrics.jsonl") == [{"server_round": 0, "R@1": 0.5}]


@pytest.mark.parametrize(("rounds", "words"), [(4, "there are 1, 2, 3, 4"), (0, "there is none")])
def test_a_round_that_is_not_there_is_refused_and_nothing_moves(rounds, words, tmp_path):
    write_run(tmp_path, rounds=rounds)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=f"from_round=7: .* has no file of this round, {words}"):
        go_back(tmp_path, 7)
    assert files(tmp_path) == before


@pytest.mark.parametrize("number", [4, 0])
def test_a_round_that_nothing_came_after_is_refused_and_bars_no_later_return(number, tmp_path):
    write_run(tmp_path, rounds=number, heads={0: [number]})
    before = files(tmp_path)
    with pytest.raises(ValueError, match=f"came after round {number}, .* leave from_round out to continue"):
        go_back(tmp_path, number)
    assert files(tmp_path) == before and not list(tmp_path.glob("*before*"))
    write_run(tmp_path, rounds=number + 2)
    go_back(tmp_path, number)
    assert saved_rounds(tmp_path) == list(range(1, number + 1))


@pytest.mark.parametrize("later", ["head", "record"])
def test_a_head_or_a_record_alone_is_set_aside_too(later, tmp_path):
    """A kill came before their round was saved."""
    write_run(tmp_path, heads={0: [4, 5]} if later == "head" else None)
    if later == "record":
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"server_round": 5, "loss": 1.0}\n')
    before = files(tmp_path)
    go_back(tmp_path, 4)
    aside = files(tmp_path / "before-4")
    assert aside["metrics.jsonl"] == before["metrics.jsonl"]
    assert ("clients/client_1/kept-round-5.npz" in aside) == (later == "head")
    assert read_records(tmp_path / "metrics.jsonl")[-1]["server_round"] == 4


@pytest.mark.parametrize("kill_at", range(11))
def test_an_interrupted_return_is_completed(kill_at, tmp_path, monkeypatch):
    write_run(tmp_path)
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    write_run(undisturbed)
    go_back(undisturbed, 2)
    seen, replace = [], os.replace

    def killed(*paths):
        if len(seen) == kill_at:
            raise KeyboardInterrupt
        seen.append(paths)
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(earlier_round.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            go_back(tmp_path, 2)
    saved = saved_rounds(tmp_path)
    assert saved == list(range(1, len(saved) + 1)), "no round is missing before another one"
    accepted = accepted_rounds(tmp_path, done=max(saved))
    assert accepted or kill_at == 10, "a run that ended earlier; at last both heads of round 2 are told to be lost"
    go_back(tmp_path, 2)
    mine = {name: text for name, text in files(tmp_path).items() if not name.startswith("undisturbed")}
    assert mine == files(undisturbed)

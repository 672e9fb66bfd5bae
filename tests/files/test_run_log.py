import errno
import json
import math
import os

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedvssl.files.run_log import RunLog, plot_losses, read_records, speed


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_records_become_lines_and_scalars(tmp_path):
    log = RunLog(tmp_path)
    log.write({"server_round": 1, "loss": 2.0, "failed": [3]})
    log.write({"server_round": 1, "partition_id": 4, "loss": 1.5})
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"server_round": 1, "loss": 2.0, "failed": [3]} and len(lines) == 2
    assert scalars(tmp_path) == {"loss": [(1, 2.0)], "client_5/loss": [(1, 1.5)]}


def test_a_line_is_strict_json(tmp_path):
    """NaN and infinities are no JSON; other readers would refuse the whole file."""
    log = RunLog(tmp_path)
    log.write(
        {"server_round": 1, "loss": math.nan, "top": np.float32(math.inf), "ends": [0.5, math.nan], "n": np.int64(3)}
    )
    log.close()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert line == {"server_round": 1, "loss": None, "top": None, "ends": [0.5, None], "n": 3}


def test_speed_tells_what_a_record_has():
    whole = {"clips_per_second": 13.44, "data_share": 0.008}
    assert speed(whole) == "13.4 samples/s (0.8 % waiting for data)"
    assert speed({"data_share": 0.008}) == "(0.8 % waiting for data)" and speed({}) == ""


def test_resuming_drops_what_will_be_written_again(tmp_path):
    log = RunLog(tmp_path)
    for server_round in (1, 2, 3):
        log.write({"server_round": server_round, "loss": float(server_round)})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"server_round": 3, "lo')
    log = RunLog(tmp_path, done=2)
    log.write({"server_round": 3, "loss": 30.0})
    log.close()
    assert [record["loss"] for record in read_records(tmp_path / "metrics.jsonl")] == [1.0, 2.0, 30.0]
    assert scalars(tmp_path)["loss"] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_a_fresh_run_in_an_old_folder_starts_empty(tmp_path):
    RunLog(tmp_path, position="epoch").write({"epoch": 1, "loss": 1.0})
    RunLog(tmp_path, position="epoch").close()
    assert read_records(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize(
    "damaged", [b'{"server_round": 2, "lo', b"\xff\xfe", b"[" * 100_000, b"\0\0", b"[2]", b"{}", b""]
)
def test_a_damaged_line_costs_that_line_only(damaged, tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    lines = [f'{{"server_round": {number}, "loss": 1.0}}'.encode() for number in (1, 2, 3)]
    lines[1] = damaged
    path.write_bytes(b"\n".join([*lines, b'{"server_round": 4, "lo']))
    assert [record["server_round"] for record in read_records(path)] == [1, 3]
    assert caplog.messages == [f"{path}: line 2 is damaged and left out."], "a half line at the end is no damage"
    RunLog(tmp_path, done=3).close()
    assert [json.loads(line)["server_round"] for line in path.read_text().splitlines()] == [1, 3]
    read_records(path)
    assert len(caplog.messages) == 1


def test_a_line_without_its_end_counts_if_it_is_whole(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "loss": 2.0}\n{"epoch": 2, "loss": 1.0}')
    log = RunLog(tmp_path, position="epoch", done=2)
    log.write({"epoch": 3, "loss": 0.5})
    assert [record["loss"] for record in read_records(log.path)] == [2.0, 1.0, 0.5]


def test_records_come_in_the_order_of_their_positions(tmp_path):
    log = RunLog(tmp_path)
    for server_round, name in ((1, "a"), (2, "b"), (3, "c"), (2, "late")):
        log.write({"server_round": server_round, "name": name})
    assert [record["name"] for record in read_records(log.path)] == ["a", "b", "late", "c"]
    RunLog(tmp_path, done=3)
    assert [json.loads(line)["name"] for line in log.path.read_text().splitlines()] == ["a", "b", "late", "c"]


def test_what_json_has_no_word_for_becomes_null(tmp_path):
    log = RunLog(tmp_path)
    log.write({"server_round": 1, "loss": float("nan"), "parts": [np.float32("inf"), 1], "lr": np.float64("nan")})
    text = log.path.read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "server_round": 1,
        **{"loss": None, "parts": [None, 1.0], "lr": None},
    }
    log.path.write_text('{"server_round": 1, "loss": NaN}\n')  # of an earlier version
    assert read_records(log.path) == [{"server_round": 1, "loss": None}]


def test_the_records_of_another_kind_of_run_are_not_deleted(tmp_path):
    RunLog(tmp_path).write({"server_round": 1})
    with pytest.raises(ValueError, match=r"metrics\.jsonl has records without 'epoch', of another kind of run: name"):
        RunLog(tmp_path, position="epoch")
    assert read_records(tmp_path / "metrics.jsonl") == [{"server_round": 1}]


def test_scalars_that_a_kill_prevented_are_written_by_the_next_start(tmp_path):
    log = RunLog(tmp_path)
    log.write({"server_round": 1, "loss": 2.0})
    with log.path.open("a") as file:
        file.write('{"server_round": 2, "loss": 1.0}\n')  # its scalars never came
    with next((tmp_path / "tensorboard").iterdir()).open("ab") as file:
        file.write(b"half a record")
    RunLog(tmp_path, done=2).write({"server_round": 3, "loss": 0.5})
    assert scalars(tmp_path)["loss"] == [(1, 2.0), (2, 1.0), (3, 0.5)]


def full_disk(monkeypatch) -> None:
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fedvssl.files.run_log._line", fail)
    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", fail)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)


def test_a_full_disk_is_told_with_the_file_and_without_a_traceback_of_tensorboard(tmp_path, monkeypatch, capsys):
    log = RunLog(tmp_path)
    full_disk(monkeypatch)
    record = {"server_round": 1, "loss": 2.0}
    for write in (log.write, log._add_scalars, lambda _: plot_losses(log.path, tmp_path / "loss.png")):
        with pytest.raises(OSError, match=str(tmp_path)):
            write(record)
    assert capsys.readouterr().err == "" and not list(tmp_path.glob(".*"))


def test_a_record_needs_its_position(tmp_path):
    with pytest.raises(ValueError, match="needs 'epoch'"):
        RunLog(tmp_path, position="epoch").write({"server_round": 1})


def test_plot_draws_the_run_and_each_client(tmp_path, monkeypatch):
    log = RunLog(tmp_path)
    for server_round in (1, 2):
        log.write({"server_round": server_round, "loss": 3.0 / server_round, "loss_size": 1.0, "lr": 0.1})
        log.write({"server_round": server_round, "partition_id": 0, "loss": 3.0, "loss_size": 1.0})
    drawn = []
    monkeypatch.setattr("matplotlib.axes.Axes.plot", lambda self, *xy, label, **style: drawn.append((label, xy)))
    monkeypatch.setattr("matplotlib.figure.Figure.legend", lambda self, *, loc: drawn.append(loc))
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda self, title: drawn.append(title))
    plot_losses(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    assert drawn == [
        ("client 1", ((1, 2), (3.0, 3.0))),
        ("loss", ((1, 2), (3.0, 1.5))),
        ("loss_size", ((1, 2), (1.0, 1.0))),
        "Loss of the run (thick) and of its clients (thin)",
        "outside right upper",
    ]
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_plot_of_nothing_is_still_a_picture(tmp_path):
    plot_losses(tmp_path / "none.jsonl", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").stat().st_size > 0


def test_a_record_is_on_the_disk_before_its_checkpoint(tmp_path, monkeypatch):
    written = []
    log = RunLog(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda file: written.append(os.fstat(file).st_size))
    log.write({"server_round": 1, "loss": 2.0})
    log.close()
    assert written == [(tmp_path / "metrics.jsonl").stat().st_size]

import json
import os

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedvssl.files.run_log import RunLog, plot_losses, read_records


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
    assert scalars(tmp_path) == {"loss": [(1, 2.0)], "client_4/loss": [(1, 1.5)]}


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
    monkeypatch.setattr("matplotlib.axes.Axes.legend", lambda self: None)
    plot_losses(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    assert drawn == [
        ("client 0", ((1, 2), (3.0, 3.0))),
        ("loss", ((1, 2), (3.0, 1.5))),
        ("loss_size", ((1, 2), (1.0, 1.0))),
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

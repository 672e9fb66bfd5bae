import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fedvssl import engines
from fedvssl.engines import Limits, start_engine
from fedvssl.files.arrays import load_arrays
from fedvssl.files.ending import Terminated, interruptible
from fedvssl.files.environment import read_environment
from fedvssl.files.lock import started as process_start
from fedvssl.files.run_log import read_records
from fedvssl.server_app import Outcome
from fedvssl.wire.wire import FederationError
from tests.federation import ROOT, family, overrides, run_main


@pytest.fixture
def engine(monkeypatch):
    """Flower's engine, replaced by a function that the test sets; returns what it and Ray were called with."""
    calls: list[dict] = []
    ray: dict = {}

    def replace(behaviour) -> list[dict]:
        def run_simulation(server_app, client_app, num_supernodes, *, backend_config):
            calls.append({"num_supernodes": num_supernodes, "ray": dict(ray), **backend_config})
            behaviour()

        monkeypatch.setattr("flwr.simulation.run_simulation", run_simulation)
        monkeypatch.setattr("ray.init", lambda **options: ray.update(options))
        return calls

    with interruptible():
        yield replace


LIMITS = Limits(num_clients=3, num_cpus=1, num_gpus=0, timeout=60)


def run_engine(limits, run_dir, outcome: Outcome | None = None) -> None:
    outcome = outcome or Outcome()
    try:
        start_engine(ServerApp(), ClientApp(), limits=limits, run_dir=run_dir, outcome=outcome)
    finally:
        assert outcome.stop.is_set(), "the server's thread would wait for ever"


def test_the_engine_gets_a_local_ray_whose_actors_come_back(engine, tmp_path, capsys):
    calls = engine(lambda: print("raylet noise"))
    run_engine(LIMITS, tmp_path)
    (call,) = calls
    assert call["num_supernodes"] == 3
    resources, init = call["client_resources"], call["ray"]
    assert resources == {"num_gpus": 0, "num_cpus": 1, "max_restarts": -1, "max_task_retries": 1}
    assert init["address"] == "local" and init["include_dashboard"] is False and init["log_to_driver"] is False
    assert capsys.readouterr().out == "" and "raylet noise" in (tmp_path / "flower.log").read_text()
    run_engine(replace(LIMITS, verbose=True), tmp_path)
    assert capsys.readouterr().out == "raylet noise\n" and calls[1]["ray"]["log_to_driver"] is True


def test_an_engine_that_breaks_down_stops_the_server_and_says_where_to_look(engine, tmp_path):
    engine(lambda: (_ for _ in ()).throw(RuntimeError("Simulation Runtime crashed.")))
    with pytest.raises(RuntimeError, match=r"broke down \(Simulation Runtime crashed\.\); see .*flower\.log"):
        run_engine(LIMITS, tmp_path)
    engine(lambda: (_ for _ in ()).throw(FederationError("Round 3 has 1 valid replies.")))
    with pytest.raises(FederationError, match=r"^Round 3 has 1 valid replies\.$"):
        run_engine(LIMITS, tmp_path)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device", "round-3.npz"), "No space left on device: round-3.npz"),
        (KeyError("loss"), "KeyError: 'loss'"),
    ],
)
def test_whatever_ends_the_server_becomes_one_sentence(error, sentence, engine, tmp_path):
    engine(lambda: (_ for _ in ()).throw(error))
    with pytest.raises(RuntimeError) as caught:
        run_engine(LIMITS, tmp_path, Outcome(error=error))
    assert str(caught.value) == f"The server broke down ({sentence}); see {tmp_path / 'flower.log'}."
    assert "Traceback" in (tmp_path / "flower.log").read_text()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (KeyError("w"), r"The server broke down \(KeyError: 'w'\); see .*error\.log"),
        (FederationError("Round 3"), "^Round 3$"),
    ],
)
def test_whatever_ends_a_run_in_this_process_becomes_one_sentence(error, sentence, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr("fedvssl.server_rounds.run_rounds", fail)
    with pytest.raises(RuntimeError, match=sentence):
        engines.train_here(SimpleNamespace(run_dir=tmp_path, introductions=None), SimpleNamespace(), LIMITS)
    assert (tmp_path / "error.log").is_file() == isinstance(error, KeyError)


@pytest.mark.parametrize("when", ["in ray.init", "after it"])
def test_ray_does_not_keep_sigterm(when, engine, tmp_path, monkeypatch):
    """Its handlers leave the process with exit code 1 or a stack of C++."""

    def start(**_options) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        if when == "in ray.init":
            signal.raise_signal(signal.SIGTERM)

    engine(lambda: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr("ray.init", start)
    with pytest.raises(Terminated):
        run_engine(LIMITS, tmp_path)


def test_what_the_engine_has_started_and_left_ends_with_it(engine, tmp_path):
    """Also a stopped process; what ran before stays."""
    with subprocess.Popen(["sleep", "600"]) as before:
        started: list[subprocess.Popen] = []

        def leave() -> None:
            started.append(subprocess.Popen(["sleep", "600"]))
            os.kill(started[0].pid, signal.SIGSTOP)

        engine(leave)
        run_engine(LIMITS, tmp_path)
        assert started[0].wait(timeout=100) is not None and before.poll() is None
        before.kill()


@pytest.mark.parametrize("error", [None, FederationError("Round 3 has 0 valid replies.")])
def test_an_engine_that_waits_for_a_lost_client_does_not_hold_the_command(error, engine, tmp_path, monkeypatch, capsys):
    outcome, left, codes = Outcome(error=error), threading.Event(), []
    monkeypatch.setattr(engines, "release_all", lambda: codes.append("released"))
    monkeypatch.setattr(engines, "end_descendants", lambda **_: codes.append("ended"))
    monkeypatch.setattr(engines, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(engines.os, "_exit", lambda code: codes.append(code) or left.set())
    engine(lambda: outcome.stop.set() or left.wait(30))
    run_engine(LIMITS, tmp_path, outcome)
    assert codes[:3] == ["ended", "released", 1 if error else 0]
    sentence = f"error: Round 3 has 0 valid replies. Run again with hydra.run.dir={tmp_path} to continue.\n"
    assert capsys.readouterr().err == (sentence if error else "")


@pytest.mark.parametrize("reason", ["Round 3 ... failed: The training diverged, loss ...", "... it is not saved."])
def test_the_sentence_of_a_diverged_run_says_how_to_go_back(reason, tmp_path):
    told = engines.end_of_run(FederationError(reason), tmp_path)
    assert f"hydra.run.dir={tmp_path} and from_round=<number>" in told and "to continue" not in told


def of_round(run_dir: Path, server_round: int) -> list[dict]:
    """Records of a round without what a clock has measured."""
    clock = ("seconds", "clips_per_second", "data_share")
    records = [record for record in read_records(run_dir / "metrics.jsonl") if record["server_round"] == server_round]
    return [{name: value for name, value in r.items() if not name.startswith(clock)} for r in records]


@pytest.mark.parametrize(("verbose", "expected"), [(False, 0), (True, 1)])
def test_flowers_lines_come_once_also_without_its_engine(verbose, expected, tmp_path, monkeypatch, caplog):
    flower, shown = logging.getLogger("flwr"), []
    own = logging.Handler()
    own.emit = lambda record: shown.append(record.getMessage())
    monkeypatch.setattr(flower, "handlers", [own])
    monkeypatch.setattr(flower, "propagate", True)  # as after its import
    monkeypatch.setattr("fedvssl.server_rounds.run_rounds", lambda *_: flower.warning("3 results"))
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        run = SimpleNamespace(run_dir=folder, introductions=None)
        engines.train_here(run, SimpleNamespace(), replace(LIMITS, verbose=verbose))
    assert shown == ["3 results"] * 2 * expected and "3 results" not in caplog.messages, "in the terminal"
    for folder in (tmp_path / "one", tmp_path / "two"):
        assert (folder / "flower.log").read_text().count("3 results") == 1
    monkeypatch.setattr("fedvssl.server_rounds.run_rounds", lambda *_: None)
    engines.train_here(SimpleNamespace(run_dir=tmp_path, introductions=None), SimpleNamespace(), LIMITS)
    assert not (tmp_path / "flower.log").exists(), "Flower has said nothing"


@pytest.mark.ray
def test_simulation_survives_a_killed_client_and_its_run_goes_on_in_this_process(data_dir, tmp_path):
    """Round 1 loses a client whose process is killed; round 3 is done again without the engine, and round 4 has too few
    replies."""
    faults = ["task.module._target_=tests.faulty.FaultyCtP", "+task.module.seed=7"]
    faults += ["+task.module.faults=[kill-1-0,raise-4-0,raise-4-1]", "strategy.min_fit_clients=2"]
    arguments = overrides(data_dir, *faults)
    whole, cut = tmp_path / "whole", tmp_path / "cut"

    first = run_main(*arguments, "rounds=3", f"hydra.run.dir={whole}", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    assert (whole / "config.yaml").is_file() and (whole / "loss.png").is_file()
    assert [entry["done"] for entry in read_environment(whole / "environment.json")] == [0]
    lines = first.stdout.splitlines()
    assert lines[-1].endswith(f"Done: {whole}") and "round 3/3  loss" in lines[-2] and "3 clients" in lines[-2]
    assert "round 1: client 1 (client_dist1.json) failed: Actor" in first.stdout
    failed = [r["failed_partition_ids"] for r in read_records(whole / "metrics.jsonl") if "partition_id" not in r]
    assert failed == [[0], [], []], "the killed client is back in the next round"
    for noise in ("raylet", "INFO :", "DEPRECATED", "ClientAppActor", "Traceback"):
        assert noise not in first.stdout + first.stderr

    shutil.copytree(whole, cut)
    (cut / "round-3-weights.npz").unlink()
    second = run_main(*arguments, "rounds=4", "engine=local", f"hydra.run.dir={cut}", folder=tmp_path)
    assert "Continuing after round 2" in second.stdout
    expected, resumed = (load_arrays(folder / "round-3-weights.npz") for folder in (whole, cut))
    assert expected.keys() == resumed.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(array, resumed[name], "both engines give the same bits")
    for one, other in zip(*(of_round(folder, 3) for folder in (whole, cut)), strict=True):
        assert one == other
    told = without_ray(second.stderr)
    assert second.returncode == 1 and len(told) == 1
    assert told[0].startswith("error: Round 4 has 1 valid replies of 3 clients")
    assert "RuntimeError: told to fail" in second.stderr
    assert "strategy.min_fit_clients asks for 2: lower it" in second.stderr
    assert second.stderr.endswith(f" Run again with hydra.run.dir={cut} to continue.\n")
    assert sorted(path.name for path in cut.glob("round-*")) == [f"round-{n}-weights.npz" for n in (1, 2, 3)]

    words = ("rounds=4", "engine=local", f"hydra.run.dir={cut}", "strategy.min_fit_clients=1")
    third = run_main(*arguments, *words, folder=tmp_path)
    assert third.returncode == 0 and "Continuing after round 3" in third.stdout, "what the sentence said helps"
    assert (cut / "round-4-weights.npz").is_file()


@pytest.mark.ray
@pytest.mark.slow  # Flower's engine is given its minute to end
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_sigterm_ends_a_round_with_a_stopped_client_and_leaves_nothing(data_dir, tmp_path):
    """A client is stopped, as by a hanging network drive; Slurm then ends the run, which continues afterwards."""
    arguments = overrides(data_dir, "rounds=100", "round_timeout=3000", f"hydra.run.dir={tmp_path / 'run'}")
    words = [sys.executable, "-m", "fedvssl.main", *arguments]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        try:
            assert any("round 1/100" in line for line in process.stdout), process.stderr.read()
            names = family(process.pid)
            started = {pid: since for pid in names if (since := process_start(pid))}
            os.kill(next(pid for pid, name in names.items() if "ClientAppA" in name), signal.SIGSTOP)
            process.terminate()
            assert process.wait(timeout=150) == 143  # an engine that does not return is given GRACE_SECONDS
            told = without_ray(process.stderr.read())
        finally:
            process.kill()  # or a failure would wait for all 100 rounds
    assert told == [f"error: Terminated. Run again with hydra.run.dir={tmp_path / 'run'} to continue."]
    assert len(started) > 4 and not left_of(started, names)
    assert not (tmp_path / "run/.lock").exists()


def without_ray(stderr: str) -> list[str]:
    """Lines of a command, without those that Ray's C++ writes if a call is lost on a busy machine."""
    return [line for line in stderr.splitlines() if "task_manager.cc" not in line]


def left_of(started: dict[int, str], names: dict[int, str], *, seconds: float = 30) -> list[str]:
    """Names of the processes that live on; killed ones may take a moment to end on a busy machine."""
    deadline = time.monotonic() + seconds
    while (left := [names[pid] for pid, since in started.items() if process_start(pid) == since]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    return left

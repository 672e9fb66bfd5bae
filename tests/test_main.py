import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fedvssl import main
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.files.arrays import load_arrays, save_arrays
from fedvssl.files.atomic import read_json, write_json
from fedvssl.files.ending import Terminated, interruptible
from fedvssl.files.environment import read_environment
from fedvssl.files.lock import owned
from fedvssl.files.lock import started as process_start
from fedvssl.files.run_log import read_records
from fedvssl.files.settings import NAMES
from fedvssl.identity import claim
from fedvssl.main import run, simulate
from fedvssl.preflight import fit_to_machine
from fedvssl.server_app import Outcome, initial_arrays
from fedvssl.wire.wire import FederationError
from tests.federation import overrides, tiny_config, write_clients

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    write_clients(path)
    return path


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    """`python -m fedvssl.main` in `folder`."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "fedvssl.main", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.fixture
def lists(tmp_path):
    """The lists of two clients, in a folder of their own."""
    return write_lists(tmp_path / "lists", ["a/1", "a/2"])


def write_lists(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names, start=1):
        write_annotations(folder / f"client_dist{number}.json", [Annotation(name, 0)])
    return folder


def config_of(lists: Path, *others: str) -> dict:
    return compose("base", ["pool_size=2", f"partition_dir={lists}", *others])


def test_a_run_with_other_settings_is_refused(lists, tmp_path):
    claim(tmp_path, config_of(lists))
    written = (tmp_path / "config.yaml").read_text()
    with pytest.raises(ValueError, match=r"is of another run, strategy\.mix_coeff was 0\.9 and is 1 now"):
        claim(tmp_path, config_of(lists, "strategy.mix_coeff=1"))
    assert (tmp_path / "config.yaml").read_text() == written


@pytest.mark.parametrize(
    ("free", "written"),
    [
        ("rounds=30", "rounds: 30"),
        ("client_resources.num_cpus=4", "num_cpus: 4"),
        ("verbose=true", "verbose: true"),
        ("training.num_workers=0", "num_workers: 0"),
        ("strategy.min_fit_clients=1", "min_fit_clients: 1"),
        ("data_dir=elsewhere", "elsewhere/ucf101/zips"),
        ("exp_name=another", "exp_name: another"),
    ],
)
def test_what_does_not_change_the_numbers_may_change(free, written, lists, tmp_path):
    claim(tmp_path, config_of(lists))
    claim(tmp_path, config_of(lists, free))
    assert written in (tmp_path / "config.yaml").read_text()


def test_a_continued_run_samples_as_many_clients_and_may_count_fewer_replies(tmp_path):
    """Three clients: int(.34 * 3) is 1, so the least number of 2 decides; int(.8 * 3) is 2 without it."""
    lists = write_lists(tmp_path / "lists", ["a/1", "a/2", "a/3"])
    begun = ("pool_size=3", "strategy.fraction_fit=0.34", "strategy.min_fit_clients=2")
    claim(tmp_path, config_of(lists, *begun))
    fewer = (*begun[:2], "strategy.min_fit_clients=1")
    with pytest.raises(ValueError, match=r"clients that a round samples was 2 and is 1 now: change strategy\.fraction"):
        claim(tmp_path, config_of(lists, *fewer))
    with pytest.raises(ValueError, match=r"was 2 and is 3 now"):
        claim(tmp_path, config_of(lists, *begun[:2], "strategy.min_fit_clients=3"))
    claim(tmp_path, config_of(lists, *fewer, "strategy.fraction_fit=0.8"))


def test_the_checkpoint_that_a_run_starts_from_is_part_of_it(lists, tmp_path):
    for name, content in {"one": b"1", "moved": b"1", "other": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    claim(tmp_path / "run", config_of(lists, f"init={tmp_path / 'one'}"))
    claim(tmp_path / "run", config_of(lists, f"init={tmp_path / 'moved'}"))
    with pytest.raises(ValueError, match=r"another run, contents of init differ now"):
        claim(tmp_path / "run", config_of(lists, f"init={tmp_path / 'other'}"))
    with pytest.raises(ValueError, match=r"another run, contents of init differ now"):
        claim(tmp_path / "run", config_of(lists))


@pytest.mark.parametrize("broken", [None, "", "[]", '[{"name": "Cl'])
def test_a_list_that_breaks_or_comes_back_does_not_stop_the_run(broken, lists, tmp_path, caplog):
    path = lists / "client_dist1.json"
    content = path.read_text()

    def start(text: str | None) -> None:
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        claim(tmp_path / "run", config_of(lists))

    caplog.set_level("INFO", logger="fedvssl")
    for text in (broken, content, broken, content):
        start(text)
    assert caplog.messages == ["client_dist1.json, which no earlier start could read, can be read now."]
    start(broken)
    with pytest.raises(ValueError, match=r"another run, contents of client_dist1\.json differ now"):
        start(content.replace("a/1", "a/3"))


def test_a_schedule_over_the_whole_run_fixes_its_length(lists, tmp_path):
    claim(tmp_path, config_of(lists, "schedule=cosine", "rounds=20"))
    with pytest.raises(ValueError, match=r"training\.schedule\.length was 20 and is 40 now"):
        claim(tmp_path, config_of(lists, "schedule=cosine", "rounds=40"))
    claim(tmp_path, config_of(lists, "schedule=cosine", "rounds=40", "training.schedule.length=20"))


def test_a_run_of_an_earlier_version_is_refused_as_such(lists, tmp_path):
    claim(tmp_path, config_of(lists))
    settings = read_json(tmp_path / "settings.json")
    earlier = {name.replace("task.", "pretext."): value for name, value in settings.items() if name not in NAMES}
    write_json(tmp_path / "settings.json", earlier)
    with pytest.raises(ValueError, match="begun with another version of fedvssl, which this one cannot continue"):
        claim(tmp_path, config_of(lists))


def test_a_data_set_may_move_but_its_partition_may_not_be_made_again(lists, tmp_path):
    claim(tmp_path, config_of(lists))
    claim(tmp_path, config_of(write_lists(tmp_path / "moved", ["a/1", "a/2"])))
    again = write_lists(tmp_path / "again", ["a/1", "a/3"])
    with pytest.raises(ValueError, match=r"another run, contents of client_dist2\.json differ now"):
        claim(tmp_path, config_of(again))


def test_a_finished_run_is_not_taken_for_one_with_other_clips(data_dir, tmp_path, monkeypatch):
    """Not "all rounds are already in" where the folder of the quickstart is used again."""
    claim(tmp_path, fit_to_machine(tiny_config(data_dir)))
    other = tmp_path / "other"
    write_clients(other, (3, 3, 3))
    monkeypatch.setattr(main, "_send_flower_log_to", lambda *_, **__: None)
    monkeypatch.setattr("fedvssl.files.rounds.last_round", lambda run_dir: 2)
    monkeypatch.setattr("fedvssl.server_app.build_server_app", lambda *_, **__: None)
    main.run(tiny_config(data_dir), run_dir=tmp_path)
    with pytest.raises(ValueError, match=r"another run, contents of client_dist2\.json differ"):
        main.run(tiny_config(other), run_dir=tmp_path)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("--help",), "Configuration groups"),
        (("--cfg", "job", "experiment=kinetics400"), "rounds: 540"),
    ],
)
def test_help_and_configuration_come_without_torch(words, shown, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    answer = command(*words, folder=tmp_path)
    assert answer.returncode == 0 and shown in answer.stdout
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "hydra" in imported and not imported & {"torch", "flwr", "ray", "lightning", "tensorboard"}


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("strategy.mix_coeff=1.5", "error: strategy.mix_coeff=1.5 (alpha) must lie in [0, 1]."),
        ("data_dir=/nowhere", "error: No client_dist<N>.json in /nowhere/"),
        ("rounds=abc", "error: rounds=abc must be a whole number, at least 1."),
        ("task.sample.crop_size=wide", "error: "),
        ("pretext.sample.crop_size=64", "error: 'pretext.sample.crop_size' is called 'task.sample.crop_size' now.\n"),
        ("data_dir=/nowhere/x=(1)", "error: No client_dist<N>.json in /nowhere/x=(1)/"),
        ("--data_dir=/nowhere/a,b", "error: No client_dist<N>.json in /nowhere/a,b/"),
        ("round=5", "error: Configuration 'base': Could not override 'round'."),
    ],
)
def test_mistakes_end_with_a_sentence_before_anything_starts(mistake, sentence, data_dir, tmp_path):
    result = command(*overrides(data_dir, "hydra.run.dir=run"), mistake, folder=tmp_path)
    assert result.returncode == 2 and result.stderr.startswith(sentence) and result.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("clients")) and not list(tmp_path.rglob("config.yaml"))


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


def test_what_is_measured_before_the_run_stands_in_its_configuration(engine, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("fedvssl.main.simulate", lambda *_, **__: None)
    run(tiny_config(data_dir, "task.module.target_stds=auto"), run_dir=tmp_path)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())["task"]["module"]["target_stds"]
    assert len(written) == 4 and all(number > 0 for number in written)


def test_clients_with_test_videos_stop_the_run_or_are_recorded(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("fedvssl.main.simulate", lambda *_, **__: None)
    write_clients(tmp_path / "data")
    write_annotations(tmp_path / "data/ucf101/annotations/test_split_1.json", [Annotation("Class1/v1_2", 1)])
    with pytest.raises(
        ValueError, match=r"client_dist2\.json has 1 of the 1 test videos of split 1, such as Class1/v1_2"
    ):
        run(tiny_config(tmp_path / "data"), run_dir=tmp_path)
    assert not (tmp_path / "config.yaml").exists()
    run(tiny_config(tmp_path / "data", "data.allow_test_videos=true"), run_dir=tmp_path)
    seen = load_arrays(tmp_path / "seen_videos.npz")
    assert len(seen["pre-training"]) == 3 + 4 + 5 and len(seen["allowed in pre-training"]) == 1


def test_a_continued_run_forgets_no_video_that_it_has_seen(engine, data_dir, tmp_path, monkeypatch):
    """The checkpoint that it began with has moved away from its own record since."""
    monkeypatch.setattr("fedvssl.main.simulate", lambda *_, **__: None)
    config, checkpoint = tiny_config(data_dir), tmp_path / "before/round-1-weights.npz"
    save_arrays(checkpoint, initial_arrays(config))
    own = {"pre-training": np.array([1, 2, 3]), "allowed": np.array([2])}
    save_arrays(checkpoint.parent / "seen_videos.npz", own)
    for name in ("before", "moved"):
        (tmp_path / name).mkdir(exist_ok=True)
        moved = tmp_path / name / checkpoint.name
        if not moved.exists():
            shutil.copy(checkpoint, moved)
        run(tiny_config(data_dir, f"init={moved}"), run_dir=tmp_path)
        seen = load_arrays(tmp_path / "seen_videos.npz")
        assert {1, 2, 3} < {*seen["pre-training"].tolist()} and len(seen["pre-training"]) == 3 + 3 + 4 + 5
        assert 2 in seen["allowed"]


def run_engine(config, run_dir, outcome: Outcome | None = None) -> None:
    outcome = outcome or Outcome()
    try:
        simulate(ServerApp(), ClientApp(), config=config, run_dir=run_dir, outcome=outcome)
    finally:
        assert outcome.stop.is_set(), "the server's thread would wait for ever"


def test_the_engine_gets_a_local_ray_whose_actors_come_back(engine, tmp_path, capsys):
    calls = engine(lambda: print("raylet noise"))
    config = compose("base", ["pool_size=3", "client_resources={num_gpus: 0, num_cpus: 1}"])
    run_engine(config, tmp_path)
    (call,) = calls
    assert call["num_supernodes"] == 3
    resources, init = call["client_resources"], call["ray"]
    assert resources == {"num_gpus": 0, "num_cpus": 1, "max_restarts": -1, "max_task_retries": 1}
    assert init["address"] == "local" and init["include_dashboard"] is False and init["log_to_driver"] is False
    assert capsys.readouterr().out == "" and "raylet noise" in (tmp_path / "flower.log").read_text()
    run_engine({**config, "verbose": True}, tmp_path)
    assert capsys.readouterr().out == "raylet noise\n" and calls[1]["ray"]["log_to_driver"] is True


def test_an_engine_that_breaks_down_stops_the_server_and_says_where_to_look(engine, tmp_path):
    engine(lambda: (_ for _ in ()).throw(RuntimeError("Simulation Runtime crashed.")))
    with pytest.raises(RuntimeError, match=r"broke down \(Simulation Runtime crashed\.\); see .*flower\.log"):
        run_engine(compose("base", []), tmp_path)
    engine(lambda: (_ for _ in ()).throw(FederationError("Round 3 has 1 valid replies.")))
    with pytest.raises(FederationError, match=r"^Round 3 has 1 valid replies\.$"):
        run_engine(compose("base", []), tmp_path)


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
        run_engine(compose("base", []), tmp_path, Outcome(error=error))
    assert str(caught.value) == f"The server broke down ({sentence}); see {tmp_path / 'flower.log'}."
    assert "Traceback" in (tmp_path / "flower.log").read_text()


ENDS = [
    (FederationError("Round 3 has 1 valid replies."), 1, "Round 3 has 1 valid replies. Run again with hydra.run.dir="),
    (OSError(28, "No space left on device", "a.npz"), 1, "No space left on device: a.npz. Run again with hydra.run"),
    (KeyboardInterrupt(), 130, "Interrupted. Run again with hydra.run.dir="),
    (Terminated(), 143, "Terminated. Run again with hydra.run.dir="),
    (ValueError("rounds=0 must be at least 1."), 2, "rounds=0 must be at least 1.\n"),
    (TypeError("no number"), 2, "TypeError: no number\n"),
]


@pytest.mark.parametrize(("error", "code", "sentence"), ENDS, ids=lambda value: type(value).__name__)
def test_the_command_ends_with_one_sentence_that_says_how_to_continue(
    error, code, sentence, tmp_path, monkeypatch, capsys
):
    def stop(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(main, "run", lambda *_, **__: (_ for _ in ()).throw(error))
    monkeypatch.setattr(main.os, "_exit", stop)
    monkeypatch.setattr(sys, "argv", ["fedvssl.main", f"hydra.run.dir={tmp_path}"])
    with pytest.raises(SystemExit) as caught:
        main.main()
    told = capsys.readouterr().err
    assert caught.value.code == code and told.startswith(f"error: {sentence}") and told.count("\n") == 1
    assert (str(tmp_path) in told) == (code != 2)


def test_a_folder_in_which_another_process_works_is_refused_before_anything_is_written(data_dir, tmp_path):
    run_dir = tmp_path / "run"
    with owned(run_dir):
        second = command(*overrides(data_dir, f"hydra.run.dir={run_dir}"), folder=tmp_path)
        assert [path.name for path in run_dir.iterdir() if path.stat().st_size] == [".lock"]
    assert second.returncode == 2 and second.stderr.startswith(f"error: {run_dir} belongs to process {os.getpid()} on ")
    assert second.stderr.count("\n") == 1


def test_a_run_owns_its_folder_and_removes_what_killed_writers_left(tmp_path, monkeypatch):
    left = [".config.12.yaml", ".round-2-weights.12.npz", ".loss.12.png", "clients/client_0/.head-round-1.3.npz"]
    for name in left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half")
    (tmp_path / ".notes.2024.txt").write_text("the user's")
    seen = []

    def run(_config, *, run_dir: Path) -> None:
        seen.append(sorted(path.name for path in run_dir.rglob(".*")))
        raise FederationError("Round 1 has 0 valid replies.")

    monkeypatch.setattr(main, "run", run)
    monkeypatch.setattr(sys, "argv", ["fedvssl.main", f"hydra.run.dir={tmp_path}"])
    with pytest.raises(SystemExit):
        main.main()
    assert seen == [[".lock", ".notes.2024.txt"]]
    assert [path.name for path in tmp_path.glob(".*")] == [".notes.2024.txt"]


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
        run_engine(compose("base", []), tmp_path)


def test_what_the_engine_has_started_and_left_ends_with_it(engine, tmp_path):
    """Also a stopped process; what ran before stays."""
    with subprocess.Popen(["sleep", "60"]) as before:
        started: list[subprocess.Popen] = []

        def leave() -> None:
            started.append(subprocess.Popen(["sleep", "60"]))
            os.kill(started[0].pid, signal.SIGSTOP)

        engine(leave)
        run_engine(compose("base", []), tmp_path)
        assert started[0].wait(timeout=10) is not None and before.poll() is None
        before.kill()


@pytest.mark.parametrize("error", [None, FederationError("Round 3 has 0 valid replies.")])
def test_an_engine_that_waits_for_a_lost_client_does_not_hold_the_command(error, engine, tmp_path, monkeypatch, capsys):
    outcome, left, codes = Outcome(error=error), threading.Event(), []
    monkeypatch.setattr(main, "release_all", lambda: codes.append("released"))
    monkeypatch.setattr(main, "end_descendants", lambda **_: codes.append("ended"))
    monkeypatch.setattr(main, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(main.os, "_exit", lambda code: codes.append(code) or left.set())
    engine(lambda: outcome.stop.set() or left.wait(30))
    run_engine(compose("base", []), tmp_path, outcome)
    assert codes[:3] == ["ended", "released", 1 if error else 0]
    sentence = f"error: Round 3 has 0 valid replies. Run again with hydra.run.dir={tmp_path} to continue.\n"
    assert capsys.readouterr().err == (sentence if error else "")


@pytest.mark.parametrize("reason", ["Round 3 ... failed: The training diverged, loss ...", "... it is not saved."])
def test_the_sentence_of_a_diverged_run_says_how_to_go_back(reason, tmp_path):
    told = main._end_of_run(FederationError(reason), tmp_path)
    assert f"hydra.run.dir={tmp_path} and from_round=<number>" in told and "to continue" not in told


@pytest.mark.ray
def test_simulation_survives_a_killed_client_resumes_and_ends_with_a_sentence(data_dir, tmp_path):
    """Round 1 loses a client whose process is killed, round 4 has too few; round 3 is done again after a resume."""
    faults = ["task.module._target_=tests.faulty.FaultyCtP", "+task.module.seed=7"]
    faults += ["+task.module.faults=[kill-1-0,raise-4-0,raise-4-1]", "strategy.min_fit_clients=2"]
    arguments = overrides(data_dir, *faults)
    whole, cut = tmp_path / "whole", tmp_path / "cut"

    first = command(*arguments, "rounds=3", f"hydra.run.dir={whole}", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    assert (whole / "config.yaml").is_file() and (whole / "loss.png").is_file()
    assert [entry["done"] for entry in read_environment(whole / "environment.json")] == [0]
    lines = first.stdout.splitlines()
    assert lines[-1].endswith(f"Done: {whole}") and "round 3/3  loss" in lines[-2] and "3 clients" in lines[-2]
    assert "round 1: client 0 (client_dist1.json) failed: Actor" in first.stdout
    failed = [r["failed_partition_ids"] for r in read_records(whole / "metrics.jsonl") if "partition_id" not in r]
    assert failed == [[0], [], []], "the killed client is back in the next round"
    for noise in ("raylet", "INFO :", "DEPRECATED", "ClientAppActor", "Traceback"):
        assert noise not in first.stdout + first.stderr

    shutil.copytree(whole, cut)
    (cut / "round-3-weights.npz").unlink()
    second = command(*arguments, "rounds=4", f"hydra.run.dir={cut}", folder=tmp_path)
    assert "Continuing after round 2" in second.stdout
    expected, resumed = (load_arrays(folder / "round-3-weights.npz") for folder in (whole, cut))
    assert expected.keys() == resumed.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(array, resumed[name])
    told = without_ray(second.stderr)
    assert second.returncode == 1 and len(told) == 1
    assert told[0].startswith("error: Round 4 has 1 valid replies of 3 clients")
    assert "RuntimeError: told to fail" in second.stderr
    assert "strategy.min_fit_clients asks for 2: lower it" in second.stderr
    assert second.stderr.endswith(f" Run again with hydra.run.dir={cut} to continue.\n")
    assert sorted(path.name for path in cut.glob("round-*")) == [f"round-{n}-weights.npz" for n in (1, 2, 3)]

    third = command(*arguments, "rounds=4", f"hydra.run.dir={cut}", "strategy.min_fit_clients=1", folder=tmp_path)
    assert third.returncode == 0 and "Continuing after round 3" in third.stdout, "what the sentence said helps"
    assert (cut / "round-4-weights.npz").is_file()


@pytest.mark.ray
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


def family(pid: int) -> dict[int, str]:
    """Names of all descendants of a process; some may end meanwhile."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                found |= {child: name_of(child), **family(child)}
    return found


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()

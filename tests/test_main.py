import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from fedvssl import identity, main
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.engines import ENGINES
from fedvssl.files.arrays import load_arrays, save_arrays
from fedvssl.files.atomic import read_json, write_json
from fedvssl.files.ending import Terminated
from fedvssl.files.lock import owned
from fedvssl.files.settings import NAMES
from fedvssl.main import run
from fedvssl.preflight import settle
from fedvssl.wire.wire import FederationError
from tests.federation import initial_arrays, overrides, run_main, tiny_config, write_clients


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


def claim(run_dir: Path, config: dict) -> None:
    identity.claim(run_dir, identity.decisive_settings(config))


def test_a_free_setting_of_an_earlier_version_is_not_compared(lists, tmp_path):
    claim(tmp_path, config_of(lists))
    settings = tmp_path / "settings.json"
    write_json(settings, {**read_json(settings), "task.private": ["target.*"]})
    claim(tmp_path, config_of(lists))


def test_a_setting_that_an_earlier_version_lacked_counts_as_what_that_version_did(lists, tmp_path):
    words = ("strategy=fedema",)
    claim(tmp_path, config_of(lists, *words))
    settings = tmp_path / "settings.json"
    write_json(settings, {n: v for n, v in read_json(settings).items() if n not in identity.ADDED_LATER})
    with pytest.raises(ValueError, match=r"strategy\.rule\.mix was \['\*'\] and is \['head\.\*'\] now"):
        claim(tmp_path, config_of(lists, *words, "strategy.rule.mix=['head.*']"))
    claim(tmp_path, config_of(lists, *words))
    claim(tmp_path, config_of(lists, *words))


def test_a_run_with_other_settings_is_refused(lists, tmp_path):
    claim(tmp_path, config_of(lists))
    written = (tmp_path / "settings.json").read_text()
    with pytest.raises(ValueError, match=r"is of another run, strategy\.mix_coeff was 0\.9 and is 1 now"):
        claim(tmp_path, config_of(lists, "strategy.mix_coeff=1"))
    assert (tmp_path / "settings.json").read_text() == written


def test_more_rounds_under_a_schedule_that_ends_are_told_to_need_a_run_of_their_own(lists, tmp_path):
    claim(tmp_path, config_of(lists, "schedule=cosine", "rounds=3"))
    words = r"schedule\.length was 3 and is 6 now: the learning rate falls over .* name another hydra\.run\.dir"
    with pytest.raises(ValueError, match=words):
        claim(tmp_path, config_of(lists, "schedule=cosine", "rounds=6"))


@pytest.mark.parametrize(
    "free",
    [
        *("rounds=30", "client_resources.num_cpus=4", "verbose=true", "training.num_workers=0"),
        *("strategy.min_fit_clients=1", "data_dir=elsewhere", "exp_name=another"),
    ],
)
def test_what_does_not_change_the_numbers_may_change(free, lists, tmp_path):
    claim(tmp_path, config_of(lists))
    claim(tmp_path, config_of(lists, free))


def test_the_configuration_of_the_last_start_is_kept(no_engine, data_dir, tmp_path):
    for rounds in (2, 30):
        run(tiny_config(data_dir, f"rounds={rounds}"), run_dir=tmp_path)
        written = yaml.safe_load((tmp_path / "config.yaml").read_text())
        assert written["rounds"] == rounds and written["training"]["precision"] == "32-true"


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
    claim(tmp_path, settle(tiny_config(data_dir)))
    other = tmp_path / "other"
    write_clients(other, (3, 3, 3))
    finished = SimpleNamespace(done=2, rounds=2)
    monkeypatch.setattr("fedvssl.server_run.build_run", lambda *_, **__: finished)
    monkeypatch.setattr("fedvssl.server_rounds.complete", lambda run: None)
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
    answer = run_main(*words, folder=tmp_path)
    assert answer.returncode == 0 and shown in answer.stdout
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "hydra" in imported and not imported & {"torch", "flwr", "ray", "lightning", "tensorboard"}


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("strategy.mix_coeff=1.5", "error: strategy.mix_coeff=1.5 must be a number from 0 to 1."),
        ("data_dir=/nowhere", "error: No client_dist<N>.json in /nowhere/"),
        ("engine=spark", "error: engine=spark is unknown: choose simulation or local or cluster."),
        ("rounds=abc", "error: rounds=abc must be a whole number, at least 1."),
        ("task.sample.crop_size=wide", "error: "),
        ("pretext.sample.crop_size=64", "error: 'pretext.sample.crop_size' is called 'task.sample.crop_size' now.\n"),
        ("data_dir=/nowhere/x=(1)", "error: No client_dist<N>.json in /nowhere/x=(1)/"),
        ("--data_dir=/nowhere/a,b", "error: No client_dist<N>.json in /nowhere/a,b/"),
        ("round=5", "error: Configuration 'base': 'round' is no setting here. Did you mean rounds?"),
    ],
)
def test_mistakes_end_with_a_sentence_before_anything_starts(
    mistake, sentence, data_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedvssl.main", *overrides(data_dir, "hydra.run.dir=run"), mistake])
    with pytest.raises(SystemExit) as caught:
        main.main()
    told = capsys.readouterr().err
    assert caught.value.code == 2 and told.startswith(sentence) and told.count("\n") == 1
    assert not list(tmp_path.rglob("clients")) and not list(tmp_path.rglob("config.yaml"))


def test_a_process_ends_with_the_code_and_the_sentence_of_a_mistake(data_dir, tmp_path):
    result = run_main(*overrides(data_dir, "hydra.run.dir=run"), "round=5", folder=tmp_path)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: Configuration 'base': 'round' is no setting here. Did you mean rounds?")


@pytest.fixture
def no_engine(monkeypatch):
    """All but the rounds."""
    monkeypatch.setitem(ENGINES, "simulation", lambda *_, **__: None)


def test_what_is_measured_before_the_run_stands_in_its_configuration(no_engine, data_dir, tmp_path):
    run(tiny_config(data_dir, "task.module.target_stds=auto"), run_dir=tmp_path)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())["task"]["module"]["target_stds"]
    assert len(written) == 4 and all(number > 0 for number in written)


def test_clients_with_test_videos_stop_the_run_or_are_recorded(no_engine, tmp_path):
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


@pytest.mark.parametrize("every", ["null", "1"])
def test_a_training_list_is_refused_as_clients_have_their_own(every, data_dir, tmp_path):
    config = tiny_config(data_dir, "data.train_list=few.json", f"eval.every={every}")
    with pytest.raises(ValueError, match=r"data\.train_list=few\.json has no effect on pre-training, whose clients"):
        main.run(config, run_dir=tmp_path)


def test_a_continued_run_forgets_no_video_that_it_has_seen(no_engine, data_dir, tmp_path):
    """The checkpoint that it began with has moved away from its own record since."""
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
        second = run_main(*overrides(data_dir, f"hydra.run.dir={run_dir}"), folder=tmp_path)
        assert [path.name for path in run_dir.iterdir() if path.stat().st_size] == [".lock"]
    assert second.returncode == 2 and second.stderr.startswith(f"error: {run_dir} belongs to process {os.getpid()} on ")
    assert second.stderr.count("\n") == 1


def test_a_run_owns_its_folder_and_removes_what_killed_writers_left(tmp_path, monkeypatch):
    left = [".config.12.yaml", ".round-2-weights.12.npz", ".loss.12.png", "clients/client_1/.kept-round-1.3.npz"]
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

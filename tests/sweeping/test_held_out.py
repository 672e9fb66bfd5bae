"""Videos that a sweep holds out of training, and test videos that training must not see."""

import json
from pathlib import Path

import pytest

from fedvssl import sweep
from fedvssl.config import compose
from fedvssl.data.annotations import read_annotations, write_annotations
from fedvssl.data.validation import hold_out
from fedvssl.files.settings import sha256
from fedvssl.sweeping.curves import labels_of
from fedvssl.sweeping.tables import baseline_rows
from tests.stand_in import StandIn
from tests.sweeping.test_sweep import as_list, planned


@pytest.fixture
def held_out(words: list[str], data_dir: Path, tmp_path: Path) -> list[str]:
    """Overrides with validation videos; the clients share the training list."""
    listed = read_annotations(data_dir / "ucf101/annotations/train_split_1.json")
    for number in range(3):
        write_annotations(tmp_path / f"lists/client_dist{number + 1}.json", listed[number::3])
    main = as_list(["pool_size=3", "rounds=2", f"partition_dir={tmp_path}/lists"])
    kept = [word for word in words if not word.startswith(("overrides.main", "rows.centralised"))]
    return [*kept, f"overrides.main={main}", "data.validation=0.5", "data.validation_seed=4"]


def with_data(commands: StandIn) -> list[list[str]]:
    """Words of the commands that read the data."""
    return [words for words in commands.words if any(word.startswith("data_dir=") for word in words)]


def test_without_validation_videos_the_commands_are_told_so(words: list[str], commands: StandIn) -> None:
    assert sweep.main(words) == 0
    assert commands.words and all("data.validation=null" in own for own in with_data(commands))
    assert commands.modules[0] == "retrieval"
    assert compose("retrieval", commands.words[0])["data"]["validation"] is None, "not the word None"


def test_validation_videos_reach_every_command_and_no_client(
    held_out: list[str], commands: StandIn, tmp_path: Path, data_dir: Path
) -> None:
    assert sweep.main(held_out) == 0
    assert {"main", "retrieval", "linear_probe", "finetune", "test"} <= {*commands.modules}
    assert all({"data.validation=0.5", "data.validation_seed=4"} <= {*own} for own in with_data(commands))
    train, validation = hold_out(read_annotations(data_dir / "ucf101/annotations/train_split_1.json"), 0.5, seed=4)
    folders = [*(tmp_path / "sweep").glob("*-seed1-split1/clients")]
    assert len(folders) == 2 and validation
    for folder in folders:
        own = [video for number in (1, 2, 3) for video in read_annotations(folder / f"client_dist{number}.json")]
        assert sorted(own, key=str) == sorted(train, key=str)
    pool = read_annotations(tmp_path / "sweep/centralised-seed1-split1/pool/client_dist1.json")
    assert sorted(pool, key=str) == sorted(train, key=str)
    trained = {word for words in commands.words for word in words if word.startswith("partition_dir=")}
    assert f"partition_dir={folders[0]}" in trained and f"partition_dir={folders[1]}" in trained


def test_results_on_validation_videos_are_marked(
    held_out: list[str], commands: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert sweep.main([*held_out, "rows.centralised=null"]) == 0
    cell = json.loads((tmp_path / "sweep/results/fedvssl_09_1-seed1-split1.json").read_text())
    parts = {kind: result.get("part") for kind, result in cell.items()}
    assert parts == {"pretrain": None, **dict.fromkeys(("retrieval", "linear_probe", "finetune"), "validation")}
    assert cell["retrieval"]["settings"]["data.validation"] == 0.5
    printed = capsys.readouterr().out
    assert "| R@1 (validation) |" in printed and "interval over the validation videos" in printed
    assert "data.validation=0.5, data.validation_seed=4" in printed
    lines = (tmp_path / "sweep/results/table.csv").read_text().splitlines()
    assert all(line.endswith(",validation") for line in lines[1:])
    assert "(validation)" in (tmp_path / "sweep/results/table.md").read_text()
    with pytest.raises(ValueError, match=r"data\.validation_seed was 4 and is 5 now"):
        sweep.sweep([*held_out, "rows.centralised=null", "data.validation_seed=5"])


def test_a_partition_with_test_videos_of_the_split_is_refused(words: list[str], tmp_path: Path, data_dir: Path) -> None:
    tested = read_annotations(data_dir / "ucf101/annotations/test_split_1.json")
    for number in (1, 2, 3):
        write_annotations(tmp_path / f"client_dist{number}.json", tested[:2])
    with pytest.raises(
        ValueError,
        match=r"1\.json has 2 of the 11 test videos of split 1, such as .*: make a partition of train_split_1",
    ):
        planned([*words, f"overrides.main={as_list(['pool_size=3', 'rounds=2', f'partition_dir={tmp_path}'])}"])


def test_every_list_of_a_folder_is_compared_once_a_row_reads_it(
    words: list[str], tmp_path: Path, data_dir: Path
) -> None:
    """A row with one client reads the first list, a later one with three finds test videos in the third."""
    train, tested = (
        read_annotations(data_dir / f"ucf101/annotations/{part}_split_1.json") for part in ("train", "test")
    )
    for number, videos in enumerate((train, train, tested), start=1):
        write_annotations(tmp_path / f"client_dist{number}.json", videos[:2])
    own = [word for word in words if not word.startswith(("overrides.main", "rows.fedavg"))]
    main = f"overrides.main={as_list(['rounds=2', f'partition_dir={tmp_path}'])}"
    rows = ["rows.fedavg.overrides=['pool_size=1']", "rows.fedvssl_09_1.overrides=['pool_size=3']"]
    with pytest.raises(ValueError, match=r"client_dist3\.json has 2 of the 11 test videos"):
        planned([*own, main, *rows])


def test_rows_that_may_see_test_videos_say_so_in_every_table(
    words: list[str], commands: StandIn, tmp_path: Path, data_dir: Path
) -> None:
    tested = read_annotations(data_dir / "ucf101/annotations/test_split_1.json")
    for number in (1, 2, 3):
        write_annotations(tmp_path / f"lists/client_dist{number}.json", tested[:2])
    commands.seen = {"seen": {"pre-training": 2}}
    main = f"overrides.main={as_list(['pool_size=3', 'rounds=2', f'partition_dir={tmp_path}/lists'])}"
    assert sweep.main([*words, main, "data.allow_test_videos=true"]) == 0
    assert all("data.allow_test_videos=True" in own for own in with_data(commands))
    for name in ("table.md", "table.csv", "table.tex"):
        text = (tmp_path / "sweep/results" / name).read_text()
        assert "FedVSSL (0.9, 1) (trained on test videos)" in text and "from scratch (trained" not in text
    cell = json.loads((tmp_path / "sweep/results/fedvssl_09_1-seed1-split1.json").read_text())
    assert cell["retrieval"]["seen"] == cell["finetune"]["seen"] == {"pre-training": 2}


FEW = "+measures.semi={{columns: {{top1_acc: few}}, overrides: ['data.train_list={}/labelled.json'], rows: {}}}"


def test_few_labels_are_a_measure_with_a_training_list_of_its_own(words: list[str], data_dir: Path, tmp_path) -> None:
    listed = read_annotations(data_dir / "ucf101/annotations/train_split_1.json")
    write_annotations(tmp_path / "labelled.json", listed[:3])
    few = FEW.format(tmp_path, "[random]")
    (step,) = [step for step in planned([*words, few]) if step.kind == "semi"]
    assert step.settings["contents of train list"] == sha256(tmp_path / "labelled.json")
    (command,) = step.commands
    assert f"data.train_list={tmp_path / 'labelled.json'}" in command and "data.train_list=null" not in command
    assert command[:2] == ["-m", "fedvssl.semi"]
    plans, _ = sweep.planned(sweep.read(compose("sweep", [*words, few])), [*words, few])
    rows = baseline_rows(plans, {"few": ("semi", "top1_acc")}, {"semi": []})
    assert [rows[title]["few"].values for title in ("majority class", "chance")] == [[4 / 11], [1 / 3]]


def test_clients_with_labels_that_a_measure_holds_out_are_told_when_the_sweep_is_planned(
    words: list[str], data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    listed = read_annotations(data_dir / "ucf101/annotations/train_split_1.json")
    own = [word for word in words if not word.startswith("overrides.main")]
    main = as_list(["pool_size=1", "rounds=2", f"partition_dir={tmp_path}"])
    few = [*own, f"overrides.main={main}", FEW.format(tmp_path, "null"), "--dry_run"]
    write_annotations(tmp_path / "client_dist1.json", listed[2:])
    assert sweep.main(few) == 2
    error = capsys.readouterr().err
    assert "labelled.json, which data.train_list names" in error and "data_tools.partition --labelled_share" in error
    write_annotations(tmp_path / "labelled.json", listed[:3])
    assert sweep.main(few) == 2
    sentence = f"rows.fedvssl_09_1 had 1 of the 3 samples in {tmp_path}/labelled.json in its pre-training, such as"
    assert sentence in capsys.readouterr().err
    write_annotations(tmp_path / "client_dist1.json", listed[3:])
    assert sweep.main(few) == 0


def test_a_training_list_of_the_whole_sweep_is_not_that_of_clients(words: list[str], data_dir: Path, tmp_path) -> None:
    listed = read_annotations(data_dir / "ucf101/annotations/train_split_1.json")
    write_annotations(tmp_path / "few.json", listed[:3])
    steps = planned([*words, own := f"data.train_list={tmp_path}/few.json"])
    assert {own in command for step in steps for command in step.commands if step.kind == "pretrain"} == {False}
    assert all(own in step.commands[0] for step in steps if step.kind == "retrieval")
    with pytest.raises(ValueError, match=r"few\.json has no effect on pre-training"):
        planned([*words, f"overrides.all={as_list([own])}"])


def test_fine_tuning_on_another_list_is_another_result_and_counts_its_videos(
    words: list[str], commands: StandIn, data_dir: Path, tmp_path: Path
) -> None:
    listed = read_annotations(data_dir / "ucf101/annotations/train_split_1.json")
    for number, name in ((1, "few"), (2, "more")):
        own = [[video for video in listed if video.label == label][:number] for label in range(3)]
        write_annotations(tmp_path / f"{name}.json", [video for videos in own for video in videos])
    rows = [*words, "rows.fedvssl_09_1=null", "measures.retrieval=null", "measures.linear_probe=null"]
    own_list = f"+measures.finetune.overrides=['data.train_list={tmp_path}/"
    few, more = ([*rows, f"{own_list}{name}.json']"] for name in ("few", "more"))
    assert sweep.main(few) == 0
    with pytest.raises(ValueError, match="has a finetune of other settings, contents of train list differ now"):
        sweep.sweep(more)
    settings = sweep.read(compose("sweep", few))
    _, steps = sweep.planned(settings, few)
    assert labels_of(settings, steps) == {"from scratch": {1: [70.0]}}

import json
import os
from pathlib import Path

import numpy as np
import pytest

from data_tools.partition import main
from fedvssl.data.annotations import Annotation, read_annotations, write_annotations

VIDEOS = [Annotation(f"Class{i % 4}/v{i}", i % 4) for i in range(22)]


@pytest.fixture
def json_path(tmp_path: Path) -> Path:
    write_annotations(tmp_path / "train_split_1.json", VIDEOS)
    return tmp_path / "train_split_1.json"


def run(json_path: Path, output_path: Path, *flags: str) -> list[list[Annotation]]:
    main(["--json_path", str(json_path), "--output_path", str(output_path), *flags])
    files = sorted(output_path.glob("client_dist*.json"), key=lambda path: int(path.stem.removeprefix("client_dist")))
    return [read_annotations(path) for path in files]


def test_uniform(json_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "client_distribution"
    clients = run(json_path, out, "--num_clients", "4", "--seed", "7")
    assert [len(client) for client in clients] == [5, 6, 5, 6]
    assert sorted(a.name for client in clients for a in client) == sorted(a.name for a in VIDEOS)
    assert run(json_path.parent, tmp_path / "other", "--num_clients", "4") == clients, "a folder; 7 is the default seed"
    assert run(json_path, tmp_path / "seed", "--num_clients", "4", "--seed", "8") != clients
    stats = json.loads((out / "partition_stats.json").read_text())
    assert [client["videos"] for client in stats["clients"]] == [5, 6, 5, 6]
    assert stats["video_overlap"] == np.diag([5, 6, 5, 6]).tolist()


def test_class_shard(json_path: Path, tmp_path: Path) -> None:
    flags = ("--num_clients", "2", "--method", "class-shard", "--classes_per_client", "2")
    clients = run(json_path, tmp_path / "out", *flags)
    assert [len({a.label for a in client}) for client in clients] == [2, 2]
    assert sorted(a.name for client in clients for a in client) == sorted(a.name for a in VIDEOS)


def test_dirichlet_and_by_group(json_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = ("--num_clients", "5", "--method", "dirichlet", "--alpha", "0.2")
    clients = run(json_path, tmp_path / "dirichlet", *flags)
    assert sorted(a.name for client in clients for a in client) == sorted(a.name for a in VIDEOS) and all(clients)
    grouped = [Annotation(f"A/v_A_g{i // 3:02d}_c{i % 3:02d}", 0) for i in range(12)]
    write_annotations(tmp_path / "grouped.json", grouped)
    clients = run(tmp_path / "grouped.json", tmp_path / "by-group", "--num_clients", "2", "--method", "by-group")
    assert [len({a.name[:9] for a in client}) for client in clients] == [2, 2]
    printed = capsys.readouterr()
    assert "mean divergence from the pooled classes" in printed.out and "WARNING" not in printed.err


@pytest.mark.parametrize(
    ("flags", "sizes", "classes"),
    [
        (("iid",), [5, 5, 6, 6], [4, 4, 4, 4]),
        (("class", "--classes_per_client", "2"), [6, 4, 6, 6], [2, 2, 2, 2]),
        (("shards", "--shards_per_client", "2"), [4, 4, 4, 4], [4, 4, 4, 4]),
    ],
)
def test_equal_parts(json_path, tmp_path, capsys, flags: tuple[str, ...], sizes: list[int], classes: list[int]) -> None:
    clients = run(json_path, tmp_path / "out", "--num_clients", "4", "--method", *flags)
    assert [len(client) for client in clients] == sizes
    assert all(len({a.label for a in client}) <= k for client, k in zip(clients, classes, strict=True))
    names = [a.name for client in clients for a in client]
    assert len(set(names)) == len(names)
    other = run(json_path, tmp_path / "seed", "--num_clients", "4", "--seed", "8", "--method", *flags)
    assert other != clients and [len(client) for client in other] == sizes
    printed = capsys.readouterr()
    left_over = f"{22 - sum(sizes)} of 22 samples are with no client: equal parts of --method shards leave them"
    assert (left_over in printed.out) == (flags[0] == "shards") and "WARNING" not in printed.err


def test_dirichlet_balanced_has_a_default(tmp_path: Path) -> None:
    write_annotations(tmp_path / "list.json", [Annotation(f"C{i % 4}/p{i}", i % 4) for i in range(200)])
    flags = ("--num_clients", "4", "--method", "dirichlet-balanced")
    clients = run(tmp_path / "list.json", tmp_path / "default", *flags)
    assert sorted(a.name for client in clients for a in client) == sorted(f"C{i % 4}/p{i}" for i in range(200))
    assert min(map(len, clients)) >= 10
    assert run(tmp_path / "list.json", tmp_path / "published", *flags, "--alpha", "0.1") == clients
    assert run(tmp_path / "list.json", tmp_path / "other", *flags, "--alpha", "5") != clients


def test_k400_paper_warns_loudly(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    videos = [Annotation(f"class{c:03d}/v{i}", c) for c in range(400) for i in range(4 + c % 3)]
    write_annotations(tmp_path / "train.json", videos)
    clients = run(tmp_path / "train.json", tmp_path / "out", "--num_clients", "100", "--method", "k400-paper")
    assert len(clients) == 100 and len({a.label for client in clients for a in client}) == 106
    stats = json.loads((tmp_path / "out/partition_stats.json").read_text())
    distinct = len({a.name for client in clients for a in client})
    expected = f"{sum(map(len, clients))} entries are {distinct} of {len(videos)} videos"
    assert expected in stats["warning"] and "106 of the 400 classes" in stats["warning"]
    assert f"WARNING: {stats['warning']}" in capsys.readouterr().err


def test_clients_of_an_earlier_partition_do_not_survive(json_path: Path, tmp_path: Path) -> None:
    run(json_path, tmp_path / "out", "--num_clients", "5")
    assert len(run(json_path, tmp_path / "out", "--num_clients", "2")) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--num_clients", "23"), "23 clients cannot share 22 videos"),
        (("--method", "class-shard"), "--classes_per_client belongs to"),
        (("--classes_per_client", "2"), "--classes_per_client belongs to"),
        (("--method", "class"), "--classes_per_client belongs to --method class-shard or class, which need it"),
        (("--method", "class", "--classes_per_client", "5"), "=5: the list has 4 classes"),
        (("--method", "shards"), "--shards_per_client belongs to --method shards, which needs it"),
        (("--method", "iid", "--shards_per_client", "2"), "--shards_per_client belongs to --method shards"),
        (("--method", "iid", "--num_clients", "23"), "23 clients cannot share 22 samples"),
        (("--method", "dirichlet-balanced"), "5 clients cannot share 22 samples with at least 10 each"),
        (("--num_clients", "2", "--method", "class-shard", "--classes_per_client", "1"), "cannot hold 4 classes"),
        (("--method", "dirichlet"), "--alpha belongs to --method dirichlet"),
        (("--method", "by-group", "--alpha", "1"), "--alpha belongs to --method dirichlet"),
        (("--method", "dirichlet", "--alpha", "0"), "alpha=0.0: the Dirichlet rule needs a number above 0"),
        (("--method", "by-group"), "22 of 22 videos name no group"),
        (("--method", "k400-paper"), "not of 4 over 5"),
    ],
)
def test_a_refused_partition_leaves_the_old_one(
    json_path: Path, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    before = run(json_path, tmp_path / "out", "--num_clients", "3")
    with pytest.raises(ValueError, match=message):
        run(json_path, tmp_path / "out", *flags)
    assert [read_annotations(tmp_path / "out" / f"client_dist{n}.json") for n in (1, 2, 3)] == before


def test_the_first_list_is_there_only_with_all_others_of_its_partition(
    json_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed command must not leave what a run of fewer clients would take for its partition."""
    out = tmp_path / "out"
    before, expected = run(json_path, out, "--num_clients", "5"), run(json_path, tmp_path / "x", "--num_clients", "4")
    seen = []

    def look(*_: object) -> None:
        files = {int(path.stem[11:]): read_annotations(path) for path in out.glob("client_dist*.json")}
        if 1 in files:
            seen.append([files.get(number) for number in range(1, 6)])

    for name in ("unlink", "replace"):
        own = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, own=own, **options: (look(), own(*args, **options), look())[1])
    run(json_path, out, "--num_clients", "4")
    assert before in seen and [*expected, None] in seen and all(files in (before, [*expected, None]) for files in seen)


def test_the_labelled_share_is_drawn_class_by_class_and_no_client_has_it(
    json_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, flags = tmp_path / "out", ("--num_clients", "2", "--method", "iid")
    clients = run(json_path, out, *flags, "--labelled_share", "0.4")
    labelled = read_annotations(out / "labelled.json")
    assert [sum(a.label == label for a in labelled) for label in range(4)] == [2, 2, 2, 2]
    assert f"{out / 'labelled.json'}: 8 labelled samples, which no client has" in capsys.readouterr().out
    assert sorted([*clients[0], *clients[1], *labelled], key=str) == sorted(VIDEOS, key=str)
    assert json.loads((out / "partition_stats.json").read_text())["num_videos"] == 14
    run(json_path, out, *flags)
    assert not (out / "labelled.json").exists(), "of an earlier partition"
    for share in ("0", "1", "1.5"):
        with pytest.raises(ValueError, match=f"--labelled_share {float(share)} must be above 0 and below 1"):
            run(json_path, out, *flags, "--labelled_share", share)


def test_groups_of_videos_are_labelled_whole(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    grouped = [Annotation(f"A/v_A{n % 2}_g{n // 8:02d}_c{n % 8:02d}", n % 2) for n in range(80)]
    write_annotations(tmp_path / "list.json", grouped)
    flags = ("--num_clients", "2", "--method", "iid", "--labelled_share", "0.2")
    clients = run(tmp_path / "list.json", tmp_path / "out", *flags)
    labelled = read_annotations(tmp_path / "out/labelled.json")
    held_out, trained = ({a.name[:-4] for a in own} for own in (labelled, [*clients[0], *clients[1]]))
    assert not held_out & trained and [sum(a.label == label for a in labelled) for label in (0, 1)] == [8, 8]
    assert "labelled.json: 16 labelled samples in 4 groups, which no client has" in capsys.readouterr().out


def test_each_owner_is_a_client_with_its_own_videos(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    names = ["bob/run/1", "ann/run/1", "bob/hop/2", "ann/3"]
    write_annotations(tmp_path / "train_split_1.json", [Annotation(name, 0) for name in names])
    words = ["--json_path", str(tmp_path), "--output_path", str(tmp_path / "out"), "--method", "by-owner"]
    main(words)
    lists = [read_annotations(tmp_path / f"out/client_dist{number}.json") for number in (1, 2)]
    assert [[annotation.name for annotation in own] for own in lists] == [
        ["ann/run/1", "ann/3"],
        ["bob/run/1", "bob/hop/2"],
    ]
    stats = json.loads((tmp_path / "out/partition_stats.json").read_text())
    assert [client["owner"] for client in stats["clients"]] == ["ann", "bob"]
    assert "client 1 (ann): 2 samples" in capsys.readouterr().out
    main([*words, "--num_clients", "2"])


@pytest.mark.parametrize(
    ("names", "flags", "sentence"),
    [
        (["ann/1", "2"], [], "2 lies in no owner's folder"),
        (["ann/1", "ann/2"], [], "there are 1 owners, ann"),
        (
            ["ann/1", "bob/2"],
            ["--num_clients", "3"],
            "--num_clients 3 with --method by-owner: there are 2 owners",
        ),
    ],
)
def test_owners_that_make_no_federation_are_refused(
    names: list[str], flags: list[str], sentence: str, tmp_path: Path
) -> None:
    write_annotations(tmp_path / "train_split_1.json", [Annotation(name, 0) for name in names])
    words = ["--json_path", str(tmp_path), "--output_path", str(tmp_path / "out"), "--method", "by-owner", *flags]
    with pytest.raises(ValueError, match=sentence):
        main(words)

import hashlib
import io
import random
import re
import zipfile
from pathlib import Path

import pytest

import data_tools.fetch
from data_tools.cifar import find_cifar
from data_tools.download import CHUNK_BYTES, DiskSpaceError, Source
from data_tools.fetch import fetch, main
from data_tools.lists import read_splits
from data_tools.raw_videos import find_raw_videos, match_to_names
from data_tools.sources import SOURCES
from fedvssl.data.annotations import Annotation
from tests.data_tools.cifar_archive import MadeUp
from tests.data_tools.file_server import FileServer, serving


def zipped(**entries: str | bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return content.getvalue()


def test_sources_are_complete() -> None:
    videos = [source.file_name for source in SOURCES["ucf101"]["raw"]]
    assert videos == ["UCF101_videos.zip", "UCF101.rar"], "the ZIP comes first"
    for name, parts in SOURCES.items():
        assert list(parts) == ["raw"] if name.startswith("cifar") else ["lists", "raw"]
        for source in (source for sources in parts.values() for source in sources):
            assert source.url.startswith("https://")
            assert re.fullmatch(r"[0-9a-f]{64}", source.sha256) or re.fullmatch(r"[0-9a-f]{32}", source.md5)
            assert source.sha256 or source.size, "MD5 alone is weak, so the size is checked too"


@pytest.mark.parametrize("hundred", [False, True])
def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hundred: bool) -> None:
    """Through a connection that breaks, checked by the kind of hash that is published, to the batches."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    made = MadeUp(hundred=hundred, per_batch=40)
    content, name = made.archive(), "cifar100" if hundred else "cifar10"
    with serving(FileServer(content, break_after=[CHUNK_BYTES + 9])) as server:
        (published,) = SOURCES[name]["raw"]
        kind = "md5" if hundred else "sha256"
        hashes = {kind: hashlib.new(kind, content).hexdigest()}
        assert bool(published.md5) == hundred
        source = Source(f"{server.address}/{published.file_name}", size=len(content), **hashes)
        monkeypatch.setitem(SOURCES[name], "raw", (source,))
        main([name, "--out_dir", str(tmp_path)])
        assert [request.get("Range") for request in server.requests] == [None, f"bytes={CHUNK_BYTES}-"]
        with pytest.raises(ValueError, match=f"{name} has no lists: its raw can be fetched"):
            main([name, "--out_dir", str(tmp_path), "--parts", "lists"])
    assert not (tmp_path / "lists").exists()
    pictures = find_cifar(tmp_path / "raw", tmp_path / "unpacked")
    assert pictures and len(pictures.pictures) == sum(map(len, made.records.values()))
    assert not (tmp_path / "unpacked").exists()


@pytest.mark.parametrize("dataset", ["ucf101", "hmdb51"])
def test_lists_and_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str) -> None:
    words = [dataset, "--out_dir", str(tmp_path)]
    with serving(FileServer(zipped(**{"folder/v.avi": "x"}))) as server:
        for part in SOURCES[dataset]:
            monkeypatch.setitem(SOURCES[dataset], part, (server.source(name=f"{part}.zip"),))
        main([*words, "--parts", "lists"])
        assert (tmp_path / "lists" / "folder" / "v.avi").exists() and not (tmp_path / "raw").exists()
        main(words)
        assert (tmp_path / "raw" / "folder" / "v.avi").exists()
        main(words)
        assert len(server.requests) == 2, "what is unpacked is not fetched again"


@pytest.mark.parametrize("folder", ["", "wave/"])
def test_hmdb51_as_an_archive_of_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """Through a connection that breaks twice, to clips that match the lists."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    stems = [f"(Rad)Schlag_die_Bank!_wave_{number}+x" for number in (1, 2)]
    inner = zipped(**{f"{folder}{stem}.avi": random.Random(stem).randbytes(2 * CHUNK_BYTES) for stem in stems})
    raw = zipped(**{"hmdb51_org/wave.zip": inner, "__MACOSX/hmdb51_org/._wave.zip": "no archive"})
    lists = zipped(**{"testTrainMulti_7030_splits/wave_test_split1.txt": f"{stems[0]}.avi 1 \n{stems[1]}.avi 2 \n"})
    with serving(FileServer(raw, break_after=[CHUNK_BYTES + 9] * 2)) as videos, serving(FileServer(lists)) as texts:
        parts = {"lists": texts.source(name="lists.zip"), "raw": videos.source(name="hmdb51_org.zip", size=len(raw))}
        for part, source in parts.items():
            monkeypatch.setitem(SOURCES["hmdb51"], part, (source,))
        main(["hmdb51", "--out_dir", str(tmp_path)])
        expected = [None, f"bytes={CHUNK_BYTES}-", f"bytes={2 * CHUNK_BYTES}-"]
        assert [request.get("Range") for request in videos.requests] == expected
    splits = read_splits(tmp_path / "lists")
    assert splits["train_split_1"] == [Annotation(f"wave/{stems[0]}", 0)]
    raw_dir = tmp_path / "raw"
    found, missing, _ = match_to_names(find_raw_videos(raw_dir), [f"wave/{stem}" for stem in stems], raw_dir)
    assert [path.stem for path in found.values()] == stems and not missing


def test_the_second_source_is_the_fallback(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    content = zipped(**{"v.avi": "x"})
    with serving(FileServer(content)) as good, serving(FileServer(content, status=404)) as bad:
        fetch((bad.source(name="a.zip"), good.source(name="b.zip")), tmp_path / "raw", tmp_path / "downloads")
    assert (tmp_path / "raw" / "v.avi").exists()
    assert "a.zip answers 404" in capsys.readouterr().out


def test_a_rar_is_not_fetched_where_it_cannot_be_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with serving(FileServer(b"rar")) as rar, serving(FileServer(b"", status=404)) as bad:
        sources = (bad.source(name="a.zip"), rar.source(name="b.rar"))
        with pytest.raises(ValueError, match=r"404.*needs unrar or 7z"):
            fetch(sources, tmp_path / "raw", tmp_path / "downloads")
        assert not rar.requests


def test_room_for_the_archive_and_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = []
    monkeypatch.setattr(data_tools.fetch, "check_disk_space", lambda folder, num_bytes: needed.append(num_bytes))
    content = zipped(**{"v.avi": "x"})
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "a.zip").write_bytes(content)  # fetched by hand
    with serving(FileServer(content)) as server:
        fetch((server.source(name="a.zip", size=len(content)),), tmp_path / "raw", tmp_path / "downloads")
        assert not server.requests
    assert needed == [len(content)]


def test_a_full_disk_does_not_lead_to_the_next_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, num_bytes: int) -> None:
        raise DiskSpaceError("no room")

    monkeypatch.setattr(data_tools.fetch, "check_disk_space", full)
    with serving(FileServer(zipped(**{"v.avi": "x"}))) as server:
        sources = (server.source(name="a.zip"), server.source(name="b.zip"))
        with pytest.raises(DiskSpaceError, match="no room"):
            fetch(sources, tmp_path / "raw", tmp_path / "downloads")
        assert not server.requests


def test_a_data_set_without_sources_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"not downloaded here \(ucf101, hmdb51, cifar10, cifar100 are\): give its videos as --raw_dir"
    ):
        main(["kinetics400", "--out_dir", str(tmp_path)])

import io
import re
import zipfile
from pathlib import Path

import pytest

from data_tools.download import DiskSpaceError
from data_tools.ucf101 import download as ucf101_download
from data_tools.ucf101.download import PARTS, fetch, main
from data_tools.ucf101.sources import LISTS, VIDEOS
from tests.data_tools.file_server import FileServer, serving


def zipped(**entries: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return content.getvalue()


def test_sources_are_complete() -> None:
    assert [source.file_name for source in VIDEOS] == ["UCF101_videos.zip", "UCF101.rar"], "the ZIP comes first"
    for source in (*VIDEOS, *LISTS):
        assert source.url.startswith("https://") and re.fullmatch(r"[0-9a-f]{64}", source.sha256)


def test_lists_and_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(FileServer(zipped(**{"UCF101/v.avi": "x"}))) as server:
        for part in PARTS:
            monkeypatch.setitem(PARTS, part, (server.source(name=f"{part}.zip"),))
        main(["--out_dir", str(tmp_path), "--parts", "lists"])
        assert (tmp_path / "lists" / "UCF101" / "v.avi").exists() and not (tmp_path / "raw").exists()
        main(["--out_dir", str(tmp_path)])
        assert (tmp_path / "raw" / "UCF101" / "v.avi").exists()
        main(["--out_dir", str(tmp_path)])
        assert len(server.requests) == 2, "what is unpacked is not fetched again"


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
    monkeypatch.setattr(ucf101_download, "check_disk_space", lambda folder, num_bytes: needed.append(num_bytes))
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

    monkeypatch.setattr(ucf101_download, "check_disk_space", full)
    with serving(FileServer(zipped(**{"v.avi": "x"}))) as server:
        sources = (server.source(name="a.zip"), server.source(name="b.zip"))
        with pytest.raises(DiskSpaceError, match="no room"):
            fetch(sources, tmp_path / "raw", tmp_path / "downloads")
        assert not server.requests

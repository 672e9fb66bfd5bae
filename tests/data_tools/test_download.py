import hashlib
import shutil
import ssl
from pathlib import Path

import numpy as np
import pytest
import requests

import data_tools.download
from data_tools.download import CHUNK_BYTES, DownloadError, Source, check_disk_space, download, main
from tests.data_tools.file_server import FileServer, serving

CONTENT = np.random.default_rng(0).bytes(300_000)


def fetch(server: FileServer, folder: Path, **source: object) -> Path:
    return download(server.source(**source), folder, attempts=3, pause_seconds=0)  # pyright: ignore[reportArgumentType]


def test_whole_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with serving(FileServer(CONTENT)) as server:
        path = fetch(server, tmp_path / "new", size=len(CONTENT))
        assert path.read_bytes() == CONTENT
        assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
        assert "Range" not in server.requests[0]
        assert fetch(server, tmp_path / "new") == path
        assert len(server.requests) == 1, "what is there is not fetched again"
    assert "fetching file.bin 300.0 kB/300.0 kB  " in capsys.readouterr().out


@pytest.mark.parametrize("validator", [{}, {"etag": None, "last_modified": "Mon, 01 Jan 2024 00:00:00 GMT"}])
def test_goes_on_where_the_connection_broke_off(tmp_path: Path, validator: dict[str, str]) -> None:
    with serving(FileServer(CONTENT, break_after=[100_000, 80_000], **validator)) as server:  # pyright: ignore[reportArgumentType]
        assert fetch(server, tmp_path).read_bytes() == CONTENT
        assert [request.get("Range") for request in server.requests] == [
            None,
            f"bytes={CHUNK_BYTES}-",
            f"bytes={2 * CHUNK_BYTES}-",
        ]
        assert server.requests[1]["If-Range"] == (server.etag or server.last_modified)


def test_goes_on_in_a_later_run(tmp_path: Path) -> None:
    with serving(FileServer(CONTENT, break_after=[100_000, 0, 0, 0])) as server:
        with pytest.raises(DownloadError, match=r"failed 3 times .*65\.5 kB are kept"):
            fetch(server, tmp_path)
        assert (tmp_path / "file.bin.part").stat().st_size == CHUNK_BYTES
        assert not (tmp_path / "file.bin").exists()
        server.break_after.clear()
        assert fetch(server, tmp_path).read_bytes() == CONTENT
        assert server.requests[-1]["Range"] == f"bytes={CHUNK_BYTES}-"
        assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_server_that_ignores_ranges(tmp_path: Path) -> None:
    with serving(FileServer(CONTENT, ranges=False, break_after=[100_000])) as server:
        assert fetch(server, tmp_path).read_bytes() == CONTENT
        assert len(server.requests) == 2


def test_server_without_a_validator_starts_anew(tmp_path: Path) -> None:
    with serving(FileServer(CONTENT, etag='W/"weak"', break_after=[100_000])) as server:
        assert fetch(server, tmp_path).read_bytes() == CONTENT
        assert "Range" not in server.requests[1], "If-Range forbids weak ETags"


def test_a_file_that_changed_on_the_server_is_fetched_anew(tmp_path: Path) -> None:
    with serving(FileServer(CONTENT, break_after=[100_000, 0, 0, 0])) as server:
        with pytest.raises(DownloadError):
            fetch(server, tmp_path)
        server.content, server.etag = CONTENT[::-1], '"v2"'
        server.break_after.clear()
        assert fetch(server, tmp_path).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("part_bytes", [len(CONTENT), len(CONTENT) + 10])
def test_a_part_that_is_complete_or_too_long(tmp_path: Path, part_bytes: int) -> None:
    (tmp_path / "file.bin.part").write_bytes((CONTENT + bytes(10))[:part_bytes])
    (tmp_path / "file.bin.part.validator").write_text('"v1"')
    with serving(FileServer(CONTENT)) as server:
        assert fetch(server, tmp_path).read_bytes() == CONTENT
        assert len(server.requests) == (1 if part_bytes == len(CONTENT) else 2)


def test_another_range_than_asked_for_is_refused(tmp_path: Path) -> None:
    with (
        serving(FileServer(CONTENT, break_after=[100_000], wrong_start=5)) as server,
        pytest.raises(DownloadError, match="another range"),
    ):
        fetch(server, tmp_path)


def test_wrong_hash(tmp_path: Path) -> None:
    with serving(FileServer(CONTENT)) as server:
        with pytest.raises(DownloadError, match=f"expected {'0' * 64}: it was deleted"):
            fetch(server, tmp_path, sha256="0" * 64)
        assert not list(tmp_path.iterdir()), "or every later run would fail as well"
        (tmp_path / "file.bin").write_bytes(b"by hand, but wrong")
        with pytest.raises(DownloadError, match="delete it and run again"):
            fetch(server, tmp_path)


def test_wrong_md5_where_that_is_all_there_is(tmp_path: Path) -> None:
    with serving(FileServer(CONTENT)) as server:
        right = hashlib.md5(CONTENT).hexdigest()
        with pytest.raises(DownloadError, match=f"has MD5 {right}, expected {'0' * 32}: it was deleted"):
            download(Source(f"{server.address}/file.bin", md5="0" * 32), tmp_path)
        assert not list(tmp_path.iterdir())
        source = Source(f"{server.address}/file.bin", md5=right.upper())
        assert download(source, tmp_path).read_bytes() == CONTENT


def test_end_without_an_announced_length_is_noticed(tmp_path: Path) -> None:
    with serving(FileServer(CONTENT, announce_length=False, break_after=[100_000])) as server:
        assert fetch(server, tmp_path, size=len(CONTENT)).read_bytes() == CONTENT


def test_another_size_is_noticed_before_the_download(tmp_path: Path) -> None:
    with serving(FileServer(CONTENT)) as server, pytest.raises(DownloadError, match="300000 bytes, expected 999"):
        fetch(server, tmp_path, size=999)
    assert not list(tmp_path.iterdir())


def test_not_found(tmp_path: Path) -> None:
    with serving(FileServer(CONTENT, status=404)) as server:
        with pytest.raises(DownloadError, match=r"file\.bin answers 404 Not Found.*--raw_dir.*--ann_dir"):
            fetch(server, tmp_path)
        assert len(server.requests) == 1, "asking again would not help"


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    with serving(FileServer(CONTENT, failing_status=[503, 429])) as server:
        assert fetch(server, tmp_path).read_bytes() == CONTENT
        server.status = 500
        with pytest.raises(DownloadError, match="the server answers 500"):
            fetch(server, tmp_path / "other")


def test_bad_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(*args: object, **kwargs: object) -> None:
        assert "verify" not in kwargs, "verification stays on"
        raise requests.exceptions.SSLError(ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] x"))

    monkeypatch.setattr(data_tools.download.requests, "get", get)
    with pytest.raises(
        DownloadError, match=r"certificate of 127.*fetch http://127.*/file.bin by hand.*--raw_dir.*--ann_dir"
    ):
        fetch(FileServer(CONTENT, address="http://127.0.0.1:1"), tmp_path)


def test_a_full_disk_is_noticed_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=200_000))
    with serving(FileServer(CONTENT)) as server:
        with pytest.raises(DownloadError, match=r"300\.0 kB are needed and 200\.0 kB are free"):
            fetch(server, tmp_path)
        assert not (tmp_path / "file.bin.part").read_bytes()
    check_disk_space(tmp_path, 200_000)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with serving(FileServer(CONTENT)) as server:
        source = server.source()
        main([source.url, "--sha256", source.sha256.upper(), "--out_dir", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "file.bin")


@pytest.mark.parametrize("url", ["https://host/", "https://host/a/..", "https://host/CON", "https://host/a\x1b.zip"])
def test_a_url_without_the_name_of_a_file_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match=r"the last part of the URL: the name "):
        main([url, "--sha256", "0" * 64, "--out_dir", str(tmp_path / "out")])
    assert not list(tmp_path.iterdir())

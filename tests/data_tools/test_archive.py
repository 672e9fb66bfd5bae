import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from data_tools import archive
from data_tools.archive import unpack
from data_tools.download import DownloadError
from tests.data_tools.cifar_archive import make_tar


def make_zip(path: Path, **entries: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def fake_tool(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An otherwise empty PATH for programs that unpack .rar files."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "mkdir", "touch", "ln", "mkfifo"):
        real = next(Path(place) / name for place in os.defpath.split(":") if place and (Path(place) / name).exists())
        (folder / name).symlink_to(real)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_zip(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", **{"UCF101/v_1.avi": "one", "readme..txt": "two"})
    folder = unpack(path, tmp_path / "raw")
    assert (folder / "UCF101" / "v_1.avi").read_text() == "one"
    (folder / "own.txt").touch()
    assert unpack(tmp_path / "gone.zip", folder) == folder and (folder / "own.txt").exists()


def test_entries_with_parts_that_say_nothing_are_unpacked(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", **{"./": "", "./UCF/": "", "./UCF/v.avi": "1", "UCF//w.avi": "2"})
    folder = unpack(path, tmp_path / "raw")
    assert {file.name: file.read_text() for file in (folder / "UCF").iterdir()} == {"v.avi": "1", "w.avi": "2"}
    with pytest.raises(ValueError, match="leads outside the folder"):
        unpack(make_zip(tmp_path / "b.zip", **{"./UCF//../../evil.txt": "evil"}), tmp_path / "other")


def test_tar_gz(tmp_path: Path) -> None:
    folder_of_its_own = tarfile.TarInfo(".")
    folder_of_its_own.type = tarfile.DIRTYPE
    path = tmp_path / "a.tar.gz"
    path.write_bytes(make_tar({"./batches/one.bin": b"one", "two.txt": b""}, folder_of_its_own))
    folder = unpack(path, tmp_path / "raw")
    assert (folder / "batches/one.bin").read_bytes() == b"one" and (folder / "two.txt").read_bytes() == b""


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"])
def test_members_of_a_tar_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tar.gz").write_bytes(make_tar({"good.txt": b"good", name: b"evil"}))
    with pytest.raises(ValueError, match="leads outside the folder"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "in" / "raw")
    assert not list((tmp_path / "in").iterdir()) and not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("kind", "what"), [(tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "link"), (tarfile.FIFOTYPE, "device")]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes, what: str) -> None:
    member = tarfile.TarInfo("odd")
    member.type, member.linkname = kind, "/etc/passwd"
    (tmp_path / "a.tar.gz").write_bytes(make_tar({"good.txt": b"good"}, member))
    with pytest.raises(ValueError, match=f"holds the {what} odd, which may lead outside"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_damaged_tars_are_refused(tmp_path: Path) -> None:
    content = make_tar({"random.bin": os.urandom(5000)})
    for damaged in (content[:-2000], b"no archive", b"\x1f\x8b" + content[10:], content[:300] + content[310:], b""):
        (tmp_path / "a.tar.gz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.tar\.gz is damaged: delete it and fetch it again"):
            unpack(tmp_path / "a.tar.gz", tmp_path / "raw")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"])
def test_entries_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    path = make_zip(tmp_path / "a.zip", **{"good.txt": "good", name: "evil"})
    with pytest.raises(ValueError, match="leads outside the folder"):
        unpack(path, tmp_path / "in" / "raw")
    assert not list((tmp_path / "in").iterdir()) and not list(tmp_path.rglob("*evil*"))


def test_archives_in_the_archive_become_folders(tmp_path: Path, tools: Path) -> None:
    fake_tool(tools, "unrar", 'mkdir -p "$7/deep"; touch "$7/deep/clip.avi"')
    inner = make_zip(tmp_path / "kick.zip", **{"kick/a.avi": "a"}).read_bytes()
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {"x/kick.zip": inner, "x/wave.RAR": b"rar", "x/b.avi": b"b"}.items():
            file.writestr(name, content)
    folder = unpack(path, tmp_path / "raw")
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert names == ["x/b.avi", "x/kick/kick/a.avi", "x/wave/deep/clip.avi"]


def test_a_damaged_archive_in_the_archive_leaves_nothing(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "all.zip", **{"good.avi": "good", "wave.zip": "no archive"})
    with pytest.raises(ValueError, match=r"wave\.zip is damaged"):
        unpack(path, tmp_path / "raw")
    assert list(tmp_path.iterdir()) == [path]


def test_a_rar_inside_is_noticed_before_anything_is_unpacked(tmp_path: Path, tools: Path) -> None:
    path = make_zip(tmp_path / "all.zip", **{"wave.rar": "rar"})
    with pytest.raises(ValueError, match="needs unrar or 7z"):
        unpack(path, tmp_path / "raw")


def test_damaged_zip_leaves_nothing(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", a="x" * 1000, b="y" * 1000)
    content = bytearray(path.read_bytes())
    content[1100:1200] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip is damaged"):
        unpack(path, tmp_path / "raw")
    assert list(tmp_path.iterdir()) == [path]


def test_too_large_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(folder: Path, num_bytes: int) -> None:
        raise DownloadError(f"{num_bytes} bytes")

    monkeypatch.setattr(archive, "check_disk_space", no_room)
    with pytest.raises(DownloadError, match="1000 bytes"):
        unpack(make_zip(tmp_path / "a.zip", a="x" * 600, b="y" * 400), tmp_path / "raw")


def test_what_an_interrupted_run_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "raw.unpacking").mkdir()
    (tmp_path / "raw.unpacking" / "half").touch()
    folder = unpack(make_zip(tmp_path / "a.zip", a="x"), tmp_path / "raw")
    assert [p.name for p in folder.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("tool", "script"),
    [
        ("unrar", 'for last; do :; done; mkdir -p "$last/UCF-101"; touch "$last/UCF-101/v.avi"'),
        (
            "7z",
            'for a; do case "$a" in -o*) out="${a#-o}/UCF-101";; esac; done; mkdir -p "$out"; touch "$out/v.avi"',
        ),
    ],
)
def test_rar(tmp_path: Path, tools: Path, tool: str, script: str) -> None:
    fake_tool(tools, tool, script)
    (tmp_path / "a.rar").touch()
    assert (unpack(tmp_path / "a.rar", tmp_path / "raw") / "UCF-101" / "v.avi").exists()


def test_rar_without_a_program(tmp_path: Path, tools: Path) -> None:
    (tmp_path / "a.rar").touch()
    with pytest.raises(ValueError, match="needs unrar or 7z"):
        unpack(tmp_path / "a.rar", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'CRC failed' >&2; exit 3", r"unrar could not unpack .*CRC failed"),
        ('for last; do :; done; ln -s /etc "$last/link"', "holds the link link"),
        ('for last; do :; done; ln "$0" "$last/hard"', "holds the link hard"),
        ('for last; do :; done; mkfifo "$last/pipe"', "holds the device pipe"),
        ('for last; do :; done; touch "$last/nul.avi"', "a device of Windows"),
    ],
)
def test_bad_rar(tmp_path: Path, tools: Path, script: str, message: str) -> None:
    fake_tool(tools, "unrar", script)
    (tmp_path / "a.rar").touch()
    with pytest.raises(ValueError, match=message):
        unpack(tmp_path / "a.rar", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("kind", "what"),
    [(stat.S_IFLNK, "link"), (stat.S_IFCHR, "device"), (stat.S_IFIFO, "device"), (stat.S_IFBLK, "device")],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: int, what: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, mode in {"plain": 0o600, "file": stat.S_IFREG | 0o600, "evil": kind | 0o777}.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match=rf"a\.zip holds the {what} evil, which may lead outside"):
        unpack(path, tmp_path / "raw")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "fault"),
    [("a\0.txt", "control character"), ("a\\b.txt", "backslash"), ("a/CON.txt", "of Windows"), ("./.", "no name")],
)
def test_names_that_not_every_system_has_are_refused(tmp_path: Path, name: str, fault: str) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "evil")
    with pytest.raises(ValueError, match=fault):
        unpack(tmp_path / "a.zip", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_folders_of_an_archive_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.mkdir("wave it")
        file.writestr("wave it/gr\u00fc\u00df (1)..avi", "v")
    assert [p.name for p in unpack(path, tmp_path / "raw").glob("wave it/*")] == ["gr\u00fc\u00df (1)..avi"]


def test_an_encrypted_archive_gets_a_sentence(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", a="x")
    stored = bytearray(path.read_bytes())
    for flags in (stored.index(b"PK\3\4") + 6, stored.index(b"PK\1\2") + 8):
        stored[flags] |= 1
    path.write_bytes(stored)
    with pytest.raises(ValueError, match=r"a\.zip is encrypted: unpack it by hand"):
        unpack(path, tmp_path / "raw")

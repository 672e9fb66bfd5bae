"""Files that are no checkpoints get a sentence of their own, whatever their names say."""

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from fedvssl.files import foreign
from fedvssl.files.arrays import load_arrays, save_arrays
from fedvssl.files.checkpoint import read_checkpoint
from fedvssl.files.foreign import first_bytes, is_safetensors
from fedvssl.files.pth import read_pth


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    return buffer.getvalue()


def pth() -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.arange(1000.0)}, buffer)
    return buffer.getvalue()


FILES = {
    "empty": (b"", "is empty"),
    "zeros": (bytes(100), "nothing but zeros"),
    "page": (b"\n <!DOCTYPE html><title>sign in</title>", "is a web page"),
    "page in capitals": (b"\xef\xbb\xbf<HTML lang='en'>", "is a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of git-lfs.* with `git lfs pull`"),
    "answer": (b'{"error": "not found"}', "server's message"),
    "gzip": (gzip.compress(b"x"), "compressed with gzip"),
    "tar": (tar(), "is a tar archive"),
    "half": (pth()[: len(pth()) // 2], "incomplete, like a download that broke off"),
    "text": (b"epoch 3", "is no checkpoint"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
}


@pytest.mark.parametrize("ending", [".pth", ".npz", ".safetensors"])
@pytest.mark.parametrize("name", FILES)
def test_each_kind_has_its_own_sentence(name: str, ending: str, tmp_path: Path) -> None:
    data, words = FILES[name]
    path = tmp_path / f"x{ending}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=words) as error:
        read_checkpoint(path)
    assert str(error.value).startswith(str(path)) and "torch." not in str(error.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^No file .*none\.pth\.$"):
        first_bytes(tmp_path / "none.pth")
    with pytest.raises(ValueError, match="is a folder: name a file in it"):
        first_bytes(tmp_path)


@pytest.mark.parametrize("length", [0x8B1F, 0x227B, 0x2020])
def test_a_length_that_looks_like_another_kind_is_none(length: int, tmp_path: Path) -> None:
    """Its first bytes are those of gzip, of a JSON text, and of blanks."""
    empty = save({"a": torch.zeros(2)}, metadata={"note": ""})
    data = save({"a": torch.zeros(2)}, metadata={"note": "x" * (length - int.from_bytes(empty[:8], "little"))})
    header = data[8:-8].rstrip().ljust(length)
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[-8:])
    assert is_safetensors(first_bytes(path))
    assert read_checkpoint(path).content["a"].shape == (2,)


def test_what_unpacks_to_more_than_the_limit_is_refused_unless_the_file_is_large_itself(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(foreign, "MOST_BYTES", 1000)
    save_arrays(tmp_path / "large.npz", {"a": np.zeros(4000, np.float32)})
    assert load_arrays(tmp_path / "large.npz")["a"].shape == (4000,)
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(4000, np.float32))
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(ValueError, match=r"bomb\.npz unpacks to 16,1\d\d bytes, more than"):
        load_arrays(tmp_path / "bomb.npz")


class Call:
    """Pickles to a call of os.system."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("old", [False, True])
def test_objects_beside_the_tensors_are_skipped_and_not_run(old: bool, tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    content = {
        "call": Call(f"touch {tmp_path / 'ran'}"),
        "module": nn.Linear(2, 2),
        "views": (shared.reshape(2, 3).T, shared[4:], torch.zeros(0, 3), torch.tensor(True)),
        "epoch": 3,
    }
    content["itself"] = content
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not old)
    read, skipped = read_pth(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists() and {"posix.system", "torch.nn.modules.linear.Linear"} <= {*skipped}
    assert read["epoch"] == 3 and read["itself"] is read and isinstance(read["views"], tuple)
    for found, expected in zip(read["views"], content["views"], strict=True):
        torch.testing.assert_close(found, expected)


def test_a_view_beyond_its_storage_is_damage(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(6)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "x.pth").read_bytes()
    assert data.count(b"K\x06\x85") == 1  # its size (6,)
    (tmp_path / "x.pth").write_bytes(data.replace(b"K\x06\x85", b"K\x07\x85"))
    with pytest.raises(ValueError, match=r"x\.pth is damaged"):
        read_pth(tmp_path / "x.pth")

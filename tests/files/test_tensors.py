import os
import zipfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedvssl.files.arrays import load_arrays, save_arrays
from fedvssl.files.tensors import load_arrays_into, load_torch, save_torch, to_arrays


def small_model() -> nn.Module:
    return nn.ModuleDict({"backbone": nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2)), "head": nn.Linear(2, 1)})


def test_arrays_return_with_names_shapes_and_dtypes(tmp_path):
    arrays = to_arrays(small_model())
    save_arrays(tmp_path / "run" / "round-1-weights.npz", arrays)
    loaded = load_arrays(tmp_path / "run" / "round-1-weights.npz")
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape
        np.testing.assert_array_equal(loaded[name], array)
    assert loaded["backbone.1.num_batches_tracked"].dtype == np.int64


def test_bfloat16_becomes_float32():
    assert to_arrays(nn.Linear(2, 2).bfloat16())["weight"].dtype == np.float32


def test_arrays_are_views():
    model = nn.Linear(2, 2)
    arrays = to_arrays(model)
    nn.init.ones_(model.weight)
    np.testing.assert_array_equal(arrays["weight"], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_read_only_arrays_are_copied_into_any_memory_and_precision(dtype):
    model = nn.Conv3d(2, 3, 3).to(dtype).to(memory_format=torch.channels_last_3d)
    array = np.random.default_rng(0).standard_normal(model.weight.shape, dtype=np.float32)
    array.flags.writeable = False
    strides = model.weight.stride()
    load_arrays_into(model, {"weight": array})
    torch.testing.assert_close(model.weight.detach(), torch.tensor(array, dtype=dtype), rtol=0, atol=0)
    assert model.weight.stride() == strides
    assert not np.shares_memory(to_arrays(model)["weight"], array)


def test_loading_by_name_is_partial_and_ignores_the_order():
    source, target = small_model(), small_model()
    head = target["head"].weight.detach().clone()
    arrays = {name: array for name, array in to_arrays(source).items() if name.startswith("backbone.")}
    load_arrays_into(target, dict(reversed(arrays.items())))
    torch.testing.assert_close(target["backbone"].state_dict(), source["backbone"].state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(target["head"].weight, head, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"backbone.9.weight": np.zeros(2)}, "has no 'backbone.9.weight'"),
        ({"head.weight": np.zeros((3, 3), np.float32)}, r"'head.weight' has shape \(3, 3\)"),
        ({"backbone.1.num_batches_tracked": np.array(6.9)}, "a counter cannot be a float"),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays, message):
    model = small_model()
    before = to_arrays(deepcopy(model))
    with pytest.raises(ValueError, match=message):
        load_arrays_into(model, {"head.bias": np.ones(1, np.float32), **arrays})
    np.testing.assert_array_equal(to_arrays(model)["head.bias"], before["head.bias"])


def test_missing_and_damaged_files_are_named(tmp_path):
    (tmp_path / "half.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "half.pth").write_bytes(b"PK\x03\x04")
    for load, name in [(load_arrays, "half.npz"), (load_torch, "half.pth")]:
        with pytest.raises(ValueError, match=name):
            load(tmp_path / name)
        with pytest.raises(ValueError, match="No file"):
            load(tmp_path / "none")


def test_torch_files_hold_tensors_only(tmp_path):
    save_torch(tmp_path / "a.pth", {"weight": torch.arange(3)})
    torch.testing.assert_close(load_torch(tmp_path / "a.pth")["weight"], torch.arange(3))
    torch.save({"code": print}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match=r"b\.pth is not a checkpoint of tensors"):
        load_torch(tmp_path / "b.pth")


def test_saving_the_same_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """Not so where torch writes the temporary name, which has the process id, into the archive."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        save_torch(tmp_path / name / "w.pth", {"a": torch.arange(3)})
    with zipfile.ZipFile(tmp_path / "first" / "w.pth") as archive:
        assert not any(str(os.getpid()) in entry for entry in archive.namelist())
    assert (tmp_path / "first" / "w.pth").read_bytes() == (tmp_path / "second" / "w.pth").read_bytes()

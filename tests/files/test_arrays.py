"""Named arrays in files without pickle."""

import numpy as np
import pytest

from fedvssl.files.arrays import load_arrays, save_arrays


def test_arrays_return_by_name_in_their_order(tmp_path):
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array(7, np.int64), "c": np.zeros((0, 2))}
    save_arrays(tmp_path / "run" / "arrays.npz", arrays)
    loaded = load_arrays(tmp_path / "run" / "arrays.npz")
    assert list(loaded) == ["b", "a", "c"]
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_a_single_array_is_no_file_of_named_ones(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(2))
    with pytest.raises(ValueError, match="it is a single array"):
        load_arrays(tmp_path / "x.npy")


def test_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="'x' holds Python objects"):
        save_arrays(tmp_path / "a.npz", {"x": np.array([{}], dtype=object)})
    np.savez(tmp_path / "b.npz", x=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"b\.npz is not an .npz of named numeric arrays"):
        load_arrays(tmp_path / "b.npz")

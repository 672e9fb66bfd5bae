"""Named arrays in files without pickle."""

import tracemalloc

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


def test_a_file_has_the_bytes_of_numpys_own_but_needs_no_copy_of_an_array(tmp_path):
    rng = np.random.default_rng(0)
    kinds = [np.float16, np.float32, np.float64, np.int8, np.int64, np.uint8, np.bool_, np.complex64, ">f4"]
    arrays = {f"layer.{kind}": rng.normal(size=(3, 2, 4)).astype(kind) for kind in kinds}
    arrays |= {"names": np.array(["a", "\u00fc"]), "days": np.array(["2020-01-01"], "datetime64[D]")}
    arrays |= {"scalar": np.array(2.0), "empty": np.zeros((0, 2)), "slice": rng.normal(size=(6, 5, 4))[::2, :, 1:]}
    save_arrays(tmp_path / "ours.npz", arrays)
    np.savez(tmp_path / "numpys.npz", **arrays)
    assert (tmp_path / "ours.npz").read_bytes() == (tmp_path / "numpys.npz").read_bytes()
    fortran = np.asfortranarray(rng.normal(size=(3, 4)))
    save_arrays(tmp_path / "turned.npz", {"file": fortran})
    np.testing.assert_array_equal(load_arrays(tmp_path / "turned.npz")["file"], fortran)
    large = {"a": np.ones(4_000_000, np.float32)}
    tracemalloc.start()
    save_arrays(tmp_path / "large.npz", large)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < large["a"].nbytes / 4


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

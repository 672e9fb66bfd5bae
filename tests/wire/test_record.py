import copy
import pickle

import flwr.app
import numpy as np
import pytest
from flwr.app import Array

from fedvssl.wire.record import pack, unpack, view

ARRAYS = {
    "float": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.array(7),
    "empty": np.zeros((0, 3), np.float32),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "sliced": np.arange(12.0)[::2],
    "half": np.ones(3, np.float16),
    "flag": np.array([True, False]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_travel_unchanged(name):
    record = pack({name: ARRAYS[name]})
    (back,) = unpack(record).values()
    for array in (back, record[name].numpy(), view(Array(ARRAYS[name]))):
        assert array.dtype == ARRAYS[name].dtype and array.shape == ARRAYS[name].shape
        np.testing.assert_array_equal(array, ARRAYS[name])
    assert record[name].shape == ARRAYS[name].shape and record[name].dtype == str(ARRAYS[name].dtype)
    if ARRAYS[name].flags.c_contiguous:
        assert record[name].data == Array(ARRAYS[name]).data, "Flower itself makes the same bytes of it"


def test_a_view_is_no_copy_and_read_only():
    array = Array(ARRAYS["float"])
    assert np.shares_memory(view(array), np.frombuffer(array.data, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        view(array)[0, 0] = 1


def test_bytes_that_are_no_numbers_are_refused(tmp_path):
    good = Array(ARRAYS["float"])
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for data in (good.data[:-1], b"", b"PK", (tmp_path / "objects.npy").read_bytes()):
        with pytest.raises(ValueError):
            view(Array(dtype=good.dtype, shape=good.shape, stype=good.stype, data=data))
    with pytest.raises(ValueError, match=r"'other' and not as \.npy"):
        view(Array(dtype=good.dtype, shape=good.shape, stype="other", data=good.data))


@pytest.mark.parametrize(
    "text",
    [
        "{{{{",
        "[" * 900,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 800 + ",), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (6,), }",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), }",
        "{'descr': '\\d4', 'fortran_order': False, 'shape': (6,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)",
    ],
)
def test_the_text_of_a_header_is_not_read_as_python(text, recwarn):
    """numpy's own reader raises TokenError, TypeError, OverflowError or MemoryError on some, and warns of others."""
    header = text.encode().ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(24)
    with pytest.raises(ValueError, match=r"as \.npy 1\.0 of numbers|bytes, which are no"):
        view(Array("float32", (2, 3), "numpy.ndarray", data))
    assert not recwarn.list


@pytest.mark.parametrize("data", [lambda good: good + b"\0", lambda good: good + good, lambda good: good[:-4]])
def test_an_array_has_the_bytes_of_its_shape_and_no_more(data):
    good = Array(ARRAYS["float"])
    with pytest.raises(ValueError, match=r"an array has \d+ bytes, which are no float32 \(2, 3\)"):
        view(Array(good.dtype, good.shape, good.stype, data(good.data)))


def test_a_record_of_flower_is_read_as_it_is():
    record = flwr.app.ArrayRecord([ARRAYS["float"]])
    assert unpack(record)["0"].sum() == 15


def test_pickle_hands_the_numbers_on_without_a_copy():
    record, buffers = pack(ARRAYS), []
    pickled = pickle.dumps(record, protocol=5, buffer_callback=buffers.append)
    received = pickle.loads(pickled, buffers=buffers)
    assert len(pickled) < 2000 and list(received) == list(record)
    for name, array in unpack(received).items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert not array.flags.writeable
        assert np.shares_memory(array, view(record[name])) or not array.size
        np.testing.assert_array_equal(received[name].numpy(), ARRAYS[name], "Flower itself can read it")


@pytest.mark.parametrize("copied", [copy.deepcopy, *(lambda r, p=p: pickle.loads(pickle.dumps(r, p)) for p in (2, 5))])
def test_other_ways_of_copying_a_record_work_too(copied):
    record = pack(ARRAYS)
    through_ray = pickle.loads(pickle.dumps(record, protocol=5))
    for received in (copied(record), copied(through_ray)):
        for name, array in unpack(received).items():
            np.testing.assert_array_equal(array, ARRAYS[name])


def test_between_machines_a_record_is_one_of_flower():
    arrays = {name: array for name, array in ARRAYS.items() if array.flags.c_contiguous}
    record = pack(arrays)
    plain = flwr.app.ArrayRecord({name: Array(array) for name, array in arrays.items()})
    received = pickle.loads(pickle.dumps(record, protocol=5))
    assert record.deflate() == plain.deflate() == received.deflate()
    assert record.object_id == plain.object_id == received.object_id


def test_a_view_on_a_record_is_packed_without_a_copy() -> None:
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(5), "empty": np.zeros((0, 2), np.int32)}
    packed = pack(arrays)
    again = pack(unpack(packed))
    assert all(again[name].data is packed[name].data for name in ("w", "n"))
    views = unpack(packed)
    for other in (views["w"][::-1], views["w"][:1], views["w"].T, views["w"].view(np.int32), views["w"].reshape(3, 2)):
        np.testing.assert_array_equal(pack({"w": other})["w"].numpy(), other)
        assert pack({"w": other})["w"].numpy().dtype == other.dtype

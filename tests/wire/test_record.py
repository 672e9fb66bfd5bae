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

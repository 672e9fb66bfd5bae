import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from flwr.common import ndarrays_to_parameters

from fedvssl.files import published
from fedvssl.files.published import STAND_INS, read_published

ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.float64).reshape(3, 2)),
    np.array(7, dtype=np.int64),
    np.array([1.5], dtype=">f4"),
]


def object_array(items) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def assert_read(path) -> None:
    loaded = read_published(path)
    assert len(loaded) == len(ARRAYS)
    for array, expected in zip(loaded, ARRAYS, strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype and array.shape == expected.shape


def write_pickle(path, payload: bytes, header: str = "{'descr': '|O', 'fortran_order': False, 'shape': (), }") -> None:
    """An .npz whose only entry claims to be an object array and holds `payload` as its pickle."""
    text = header.ljust(117) + "\n"
    npy = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + payload
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", npy)


def test_parameters_object_of_flwr(tmp_path):
    np.savez(tmp_path / "round.npz", np.array(ndarrays_to_parameters(ARRAYS), dtype=object))
    assert_read(tmp_path / "round.npz")


def test_object_array_of_arrays(tmp_path):
    np.savez(tmp_path / "round.npz", object_array(ARRAYS))
    assert_read(tmp_path / "round.npz")


def test_numpy_1_names_and_numpy_scalars(tmp_path):
    payload = pickle.dumps(object_array([*ARRAYS[:2], np.int64(7), ARRAYS[3]]), protocol=4)
    old = payload.replace(b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray")
    assert b"\x15numpy.core.multiarray" in old and b"_core" not in old
    frame = old.index(b"\x95")  # the length of the pickle's frame has shrunk with each replaced name
    length = int.from_bytes(old[frame + 1 : frame + 9], "little") - (len(payload) - len(old))
    old = old[: frame + 1] + length.to_bytes(8, "little") + old[frame + 9 :]
    write_pickle(tmp_path / "round.npz", old, "{'descr': '|O', 'fortran_order': False, 'shape': (4,), }")
    assert_read(tmp_path / "round.npz")


def test_plain_positional_arrays_in_the_order_of_their_numbers(tmp_path):
    np.savez(tmp_path / "round.npz", *[np.array(n) for n in range(12)])
    assert [int(array) for array in read_published(tmp_path / "round.npz")] == list(range(12))


class Calls:
    """Pickles to a call of `function(*arguments)`."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def stacked_call(module: str, name: str, argument: str) -> bytes:
    """A protocol-0 pickle that calls module.name(argument), with names that need not exist here."""
    return f"c{module}\n{name}\n(S'{argument}'\ntR.".encode()


def hostile_payloads(marker: str) -> dict[str, bytes]:
    touch = f"touch {marker}"
    python = f"open({marker!r}, 'w')"
    dumps = {
        "os.system": Calls(os.system, touch),
        "eval": Calls(eval, python),
        "exec": Calls(exec, python),
        "open": Calls(open, marker, "w"),
        "numpy object array": object_array([np.zeros(2), Calls(os.system, touch)]),
        "numpy.load": Calls(np.load, marker, None, True),
        "numpy.memmap": Calls(np.memmap, marker, "uint8", "w+", 0, (8,)),
        "numpy.save": Calls(np.save, marker, np.zeros(1)),
        "pickle in pickle": Calls(pickle.loads, pickle.dumps(Calls(os.system, touch))),
        "getattr": Calls(getattr, os.system, "__call__"),
        "parameters with a call": {"tensors": [Calls(os.system, touch)]},
    }
    payloads = {name: pickle.dumps(content, protocol=4) for name, content in dumps.items()}
    for module, name in [("os", "system"), ("posix", "system"), ("builtins", "exec"), ("numpy.f2py.capi_maps", "eval")]:
        payloads[f"{module}.{name} by text"] = stacked_call(module, name, touch)
    payloads["dotted name"] = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    payloads["persistent id"] = b"\x80\x04\x8c\x01xQ."
    return payloads


@pytest.mark.parametrize("attack", hostile_payloads("x"))
def test_hostile_pickles_are_refused_and_do_not_run(attack, tmp_path):
    marker = tmp_path / "ran"
    write_pickle(tmp_path / "hostile.npz", hostile_payloads(str(marker))[attack])
    with pytest.raises(ValueError, match=r"hostile\.npz is not a published checkpoint"):
        read_published(tmp_path / "hostile.npz")
    assert not marker.exists(), "the pickle ran"


def test_the_attacks_of_this_test_work_on_an_unpickler_without_guard(tmp_path):
    marker = tmp_path / "ran"
    pickle.loads(hostile_payloads(str(marker))["os.system"])
    assert marker.exists()


def test_a_parameters_object_cannot_smuggle_a_pickle(tmp_path):
    marker = tmp_path / "ran"
    inner = io.BytesIO()
    np.save(inner, object_array([Calls(os.system, f"touch {marker}")]), allow_pickle=True)
    parameters = ndarrays_to_parameters(ARRAYS)
    parameters.tensors[1] = inner.getvalue()
    np.savez(tmp_path / "hostile.npz", np.array(parameters, dtype=object))
    with pytest.raises(ValueError, match="hostile"):
        read_published(tmp_path / "hostile.npz")
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"weights": [1.0]},
        ["text"],
        object_array([np.array(["text"])]),
        object_array([np.zeros(2, dtype=[("a", "f4")])]),
    ],
    ids=["dict", "text", "text array", "structured array"],
)
def test_other_contents_are_refused(content, tmp_path):
    np.savez(tmp_path / "round.npz", np.array(content, dtype=object))
    with pytest.raises(ValueError, match="not a published checkpoint"):
        read_published(tmp_path / "round.npz")


def test_lists_that_hold_themselves_and_wrong_lengths_are_refused(tmp_path):
    loop: list = []
    loop.append(loop)
    write_pickle(tmp_path / "loop.npz", pickle.dumps(loop))
    short = pickle.dumps(object_array(ARRAYS), protocol=4).replace(ARRAYS[0].tobytes(), ARRAYS[0].tobytes()[:-1] + b"")
    write_pickle(tmp_path / "short.npz", short)
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04")
    for name, fault in {"loop": "not a published checkpoint", "short": "damaged", "damaged": "incomplete"}.items():
        with pytest.raises(ValueError, match=f"{name}.npz is .*{fault}"):
            read_published(tmp_path / f"{name}.npz")


@pytest.mark.parametrize("state", ["attributes", "slots"])
@pytest.mark.parametrize(("module", "name"), [*STAND_INS, ("flwr.common", "Parameters")])
def test_a_pickle_cannot_change_the_stand_ins(module, name, state, tmp_path):
    """BUILD on the function or class itself, not on what it makes."""
    stand_in = published._Unpickler(io.BytesIO()).find_class(module, name)
    before = dict(vars(stand_in))
    attributes = f"}}S'{module}.{state}'\nS'poison'\ns".encode()
    built = attributes if state == "attributes" else b"N" + attributes + b"\x86"
    write_pickle(tmp_path / "hostile.npz", f"\x80\x04c{module}\n{name}\n".encode("latin1") + built + b"b.")
    with pytest.raises(ValueError, match="not a published checkpoint"):
        read_published(tmp_path / "hostile.npz")
    assert dict(vars(stand_in)) == before


@pytest.mark.parametrize("leaf", [[0, 0], []], ids=["numbers", "nothing"])
def test_lists_that_share_lists_are_not_expanded(leaf, tmp_path):
    nested = leaf
    for _ in range(100):
        nested = [nested, nested]
    write_pickle(tmp_path / "round.npz", pickle.dumps(nested))
    assert (tmp_path / "round.npz").stat().st_size < 1500
    with pytest.raises(ValueError, match="more than 1000 arrays and lists"):
        read_published(tmp_path / "round.npz")


@pytest.mark.parametrize("form", ["list", "parameters"])
def test_a_long_list_is_refused(form, tmp_path):
    arrays = [np.zeros(1, np.float32)] * 1001
    content = ndarrays_to_parameters(arrays) if form == "parameters" else arrays
    write_pickle(tmp_path / "round.npz", pickle.dumps(content))
    with pytest.raises(ValueError, match="more than 1000 arrays"):
        read_published(tmp_path / "round.npz")


@pytest.mark.parametrize("form", ["entry", "tensors", "parameters"])
def test_what_would_fill_the_memory_is_refused_before_it_is_unpacked(form, tmp_path, monkeypatch):
    array = np.zeros(10_000, np.float32)
    parameters = ndarrays_to_parameters([array] * (1 if form == "parameters" else 5))
    parameters.tensors = [parameters.tensors[0]] * len(parameters.tensors)  # one and the same bytes in the pickle
    write_pickle(tmp_path / "round.npz", pickle.dumps([parameters] * 5 if form == "parameters" else parameters))
    monkeypatch.setattr(published, "MOST_BYTES", 1000 if form == "entry" else 100_000)
    if form == "entry":
        monkeypatch.setattr(zipfile.ZipFile, "read", None)
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_published(tmp_path / "round.npz")

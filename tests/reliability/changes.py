"""Changes of what a client sends, by kind. Each is made on a draft, and says whether the server may still accept it.

A change goes below Flower's own checks where these would refuse it: a stranger's program has none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from fedvssl.wire.record import ARRAYS, CLIENT, CONFIG, METRICS
from fedvssl.wire.replies import FACTS, SERVERS_OWN

Change = Callable[["Draft", np.random.Generator], bool]
NUM_CLIENTS = 4
HOSTILE_TEXTS = ("", "\n", "\0", "a\nb", "\x1b[31mred", "\ud800", "\u202e", "x" * 10**5, "../../x", "%s%n", "{0}", "|")
WRONG_NUMBERS: tuple[Any, ...] = (
    *(np.nan, np.inf, -np.inf, 1e308, -1e308, 10**400, -(10**5000), True, "1", b"1", None, [], [1.0], {}, 1j),
    *(np.float32(np.nan), np.array(1.0), np.array([1.0, 2.0]), object()),
)
SHAPES = ("(True, 3)", "(-1,)", "(2.0,)", "(1, 'a')", "None", "9" * 800, f"({'9' * 800},)", "(10000000000, 9999999)")
HEADERS = (
    *(
        "{{{{",
        "{",
        "",
        "[]",
        "1",
        "{'descr': '<f4'}",
        "(" * 500,
        "[" * 900,
        "{'descr': '<f4', 'fortran_order': False, ",
    ),
    *("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }" for shape in SHAPES),
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<U99', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<f3', 'fortran_order': 2, 'shape': (1,), }",
    "{'descr': __import__('os'), 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '\\d', 'fortran_order': False, 'shape': (1L,), }",
)


@dataclass
class Draft:
    """Reply and introduction of one client before they are sent.

    Args:
        arrays, metrics, introduction: contents of the three records.
        expected: arrays that the server sends.
        records: in place of the records of the reply, and of the introduction, those that differ.
        error: sent in place of a reply, or of an introduction if `introduces`.
        introduces: the change is one of the introduction.
        metadata: entries of the message's metadata that differ; None removes the metadata.
        claims: partition ids that the node may take from others.
    """

    arrays: dict[Any, Any]
    metrics: dict[Any, Any]
    introduction: dict[Any, Any]
    expected: Mapping[str, np.ndarray]
    records: dict[Any, Any] = field(default_factory=dict)
    error: Error | None = None
    introduces: bool = False
    metadata: dict[str, Any] | None = field(default_factory=dict)
    claims: set[int] = field(default_factory=set)

    def reply(self, message: Message) -> Message:
        """The training reply; the introduction where the message asks for it."""
        asks_who = message.metadata.message_type == "query"
        records: dict[Any, Any] = (
            {CLIENT: record(MetricRecord, self.introduction)}
            if asks_who
            else {ARRAYS: record(ArrayRecord, self.arrays), METRICS: record(MetricRecord, self.metrics)}
        )
        if asks_who != self.introduces:
            return Message(record(RecordDict, records), reply_to=message)
        if self.error is not None:
            reply = Message(self.error, reply_to=message)
        else:
            changed = {name: value for name, value in {**records, **self.records}.items() if value != "missing"}
            reply = Message(record(RecordDict, changed), reply_to=message)
        if self.metadata is None:
            reply.__dict__["_metadata"] = None
        else:
            reply.metadata.__dict__.update(self.metadata)
        return reply


def record(kind: Any, content: Mapping[Any, Any]) -> Any:
    """Record of Flower with any content."""
    made = kind()
    made.__dict__["_data"].update(content)
    return made


def pick(rng: np.random.Generator, choices: Any) -> Any:
    choices = list(choices)
    return choices[int(rng.integers(len(choices)))]


def _one_array(draft: Draft, rng: np.random.Generator) -> tuple[str, Array]:
    """A copy of one of the arrays, which takes its place in the draft."""
    name = pick(rng, draft.arrays)
    old = draft.arrays[name]
    draft.arrays[name] = Array(dtype=old.dtype, shape=old.shape, stype=old.stype, data=bytes(old.data))
    return name, draft.arrays[name]


def header_bytes(draft: Draft, rng: np.random.Generator) -> bool:
    _, array = _one_array(draft, rng)
    data = bytearray(array.data)
    for place in rng.integers(128, size=rng.integers(1, 5)):
        data[place] = rng.integers(256)
    array.data = bytes(data)
    return True


def header_text(draft: Draft, rng: np.random.Generator) -> bool:
    _, array = _one_array(draft, rng)
    text = pick(rng, HEADERS).encode("latin1").ljust(117) + b"\n"
    length = int(pick(rng, (len(text), 0, 65535, 118))) if rng.random() < 0.3 else len(text)
    version = bytes(pick(rng, ((1, 0), (1, 0), (2, 0), (3, 0), (9, 9))))
    array.data = b"\x93NUMPY" + version + length.to_bytes(2, "little") + text + array.data[128:]
    return False


def length_of_data(draft: Draft, rng: np.random.Generator) -> bool:
    _, array = _one_array(draft, rng)
    data = array.data
    array.data = pick(rng, (b"", data[: rng.integers(len(data))], data + b"\0", data + data, b"PK\3\4", data[1:]))
    return False


def shape(draft: Draft, rng: np.random.Generator) -> bool:
    name, _ = _one_array(draft, rng)
    array = draft.expected[name]
    shapes = [array[None], array[..., None], np.zeros((0, 3), array.dtype), np.resize(array, array.size + 1)]
    draft.arrays[name] = Array(pick(rng, [*shapes, np.zeros((1,) * 40, array.dtype)]))
    return False


def dtype(draft: Draft, rng: np.random.Generator) -> bool:
    name, _ = _one_array(draft, rng)
    array = draft.expected[name]
    others = [array.dtype.newbyteorder(), *map(np.dtype, ("f2", "f8", "i1", "u8", "c8", "?", "S3", "M8[s]"))]
    draft.arrays[name] = Array(array.astype(pick(rng, [other for other in others if other != array.dtype])))
    return False


def storage(draft: Draft, rng: np.random.Generator) -> bool:
    name, array = _one_array(draft, rng)
    if rng.random() < 0.3:  # the server reads the file and not what is written on it
        array.dtype, array.shape = pick(rng, HOSTILE_TEXTS), pick(rng, ((10**12,), (), (-1,), "a"))
        return True
    if rng.random() < 0.5:
        array.stype = pick(rng, [*HOSTILE_TEXTS, None, 1])
    elif rng.random() < 0.5:
        array.__dict__["data"] = pick(rng, WRONG_NUMBERS)
    else:
        draft.arrays[name] = pick(rng, [*WRONG_NUMBERS, "missing"])
    return False


def numbers(draft: Draft, rng: np.random.Generator) -> bool:
    name, _ = _one_array(draft, rng)
    array = np.array(draft.expected[name])
    if array.dtype.kind == "f":
        largest = float(np.finfo(array.dtype).max)
        value = pick(rng, (np.nan, np.inf, -np.inf, largest, -largest, *((-1e-3,) if "running_var" in name else ())))
    else:
        limits = np.iinfo(array.dtype)
        value = pick(rng, (limits.max, limits.min, int(array.max()) + 2**40, int(array.min()) - 1))
    array.reshape(-1)[int(rng.integers(array.size))] = value
    draft.arrays[name] = Array(array)
    return False


def names_of_arrays(draft: Draft, rng: np.random.Generator) -> bool:
    name, array = _one_array(draft, rng)
    kind = int(rng.integers(4))
    if kind != 0:
        del draft.arrays[name]
    if kind != 1:
        draft.arrays[pick(rng, [*HOSTILE_TEXTS, name + " ", name.upper(), 1, None])] = array
    if kind == 3:
        draft.arrays.clear()
    return False


def names_of_metrics(draft: Draft, rng: np.random.Generator) -> bool:
    kind = int(rng.integers(4))
    if kind == 0:
        own = pick(rng, [*SERVERS_OWN, "loss-weight", "eval-R@1"])
        draft.metrics[own.replace("-", pick(rng, "-_"))] = pick(rng, (3, 3.0, np.nan, [1.0]))
        return False
    if kind == 1:
        unknown = pick(rng, ([*HOSTILE_TEXTS], ["num_clips", "Loss", "iou2"], [f"m{n}" for n in range(1000)]))
        draft.metrics.update(dict.fromkeys(unknown, pick(rng, (1.0, np.nan, "text"))))
        return True
    if kind == 2:
        left_out = rng.permutation([name for name in draft.metrics if name not in ("loss", "num-examples")])
        for name in left_out[: rng.integers(1, len(left_out) + 1)]:
            del draft.metrics[str(name)]
        return True
    for name in pick(rng, (["loss"], ["num-examples"], list(draft.metrics))):
        del draft.metrics[name]
    return False


def values_of_metrics(draft: Draft, rng: np.random.Generator) -> bool:
    name = pick(rng, [name for name in draft.metrics if name != "num-examples"])
    too_low = (-1.0, -1e-9, -1e9, -(2**63)) if name == "loss" or name in FACTS else ()
    too_high = (1.1, 2, 100) if name == "data-share" else ()
    draft.metrics[name] = pick(rng, [*WRONG_NUMBERS, *too_low, *too_high])
    return False


def number_of_videos(draft: Draft, rng: np.random.Generator) -> bool:
    told = draft.metrics["num-examples"]
    draft.metrics["num-examples"] = pick(rng, (*WRONG_NUMBERS, 0, -1, told + 1, told + 0.5, 1e12, 2**53, 2**63))
    return False


def records(draft: Draft, rng: np.random.Generator) -> bool:
    others = ("missing", None, [], record(ConfigRecord, {"a": 1}), RecordDict(), MetricRecord(), ArrayRecord(), 1)
    draft.records[pick(rng, (ARRAYS, METRICS))] = pick(rng, others)
    return False


def configs(draft: Draft, rng: np.random.Generator) -> bool:
    """Records beside those that are read."""
    content = {pick(rng, HOSTILE_TEXTS): pick(rng, WRONG_NUMBERS) for _ in range(3)}
    draft.records[pick(rng, (CONFIG, CLIENT, *HOSTILE_TEXTS))] = pick(rng, (record(ConfigRecord, content), None, 1))
    return True


def errors(draft: Draft, rng: np.random.Generator) -> bool:
    binary = rng.bytes(1000).decode("latin1")
    wrapped = f"<class 'ray.exceptions.{binary}'>:<'{binary}'>"
    reasons = (*HOSTILE_TEXTS, *WRONG_NUMBERS, binary, wrapped, "y\n" * 10**6, rng.bytes(10))
    draft.error = Error(pick(rng, (0, 2, -1, 10**30)), pick(rng, reasons))
    return False


def addresses(draft: Draft, rng: np.random.Generator) -> bool:
    """The message that a reply answers: none, or that of any client."""
    others = ("", "1", "\n", 5, None, [], *(f"m{number}" for number in range(2 * NUM_CLIENTS)))
    draft.metadata = pick(rng, (None, {"_reply_to_message_id": pick(rng, others)}))
    return True


def introductions(draft: Draft, rng: np.random.Generator) -> bool:
    draft.introduces = True
    own = draft.introduction["partition-id"]
    kind = int(rng.integers(6))
    if kind == 0:
        wrong = (*WRONG_NUMBERS, float(own), str(own), [own], -1, 2**63, NUM_CLIENTS, 77)
        draft.introduction["partition-id"] = pick(rng, wrong)
    elif kind == 1:
        draft.introduction["num-examples"] = pick(rng, (*WRONG_NUMBERS, 0, -1, 2**53, 2**63, 1.5, 1e12))
    elif kind == 2:
        del draft.introduction[pick(rng, draft.introduction)]
    elif kind == 3:
        draft.records[CLIENT] = pick(rng, ("missing", None, record(ConfigRecord, draft.introduction), RecordDict(), 1))
    elif kind == 4:
        errors(draft, rng)
    else:
        draft.claims = {pick(rng, [other for other in range(NUM_CLIENTS) if other != own])}
        draft.introduction["partition-id"] = min(draft.claims)
        return True  # if the other one does not introduce itself
    return False


CHANGES: dict[str, Change] = {
    "bytes of an array's header": header_bytes,
    "the text of an array's header": header_text,
    "the length of an array": length_of_data,
    "the shape of an array": shape,
    "the dtype of an array": dtype,
    "the kind of an array": storage,
    "numbers in an array": numbers,
    "names of arrays": names_of_arrays,
    "names of metrics": names_of_metrics,
    "values of metrics": values_of_metrics,
    "its number of videos": number_of_videos,
    "records of its reply": records,
    "configs beside its reply": configs,
    "its reply to an error": errors,
    "the address of its reply": addresses,
    "its introduction": introductions,
}

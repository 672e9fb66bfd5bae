"""Parts of a round's cost besides training: copying, checks, averaging and saving, each beside its floor.

    python -m benchmarks.round_parts

Times the functions of a run on arrays of real size, in one process: the backbone R3D-18 (133 MB) and 5 replies, with
the default strategy in a later round. Flower's engine, Ray's scheduling and PyTorch are left out; `benchmarks.round`
has them.
    copying    the shared arrays and each reply are packed; each message is pickled as by Ray, which copies its buffers
               into shared memory, and unpacked. Floor: the bytes of the messages, copied once.
    checks     `read_update` and the bound on the size of each reply, `check_growth` of the result.
    averaging  two means of the replies, their mix, and the mean with the last round. Floor of both: the bytes of the
               replies, copied once.
    saving     a round file. Floor: its bytes, written at once, with fsync.
All take turns, each with its floor.
"""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.measure import Result, alternate
from fedvssl.building import build_task
from fedvssl.config import compose
from fedvssl.files.arrays import Arrays, save_arrays
from fedvssl.server_run import build_strategy
from fedvssl.strategy.bounds import Step, UpdateBound, check_growth
from fedvssl.strategy.fedavg import FedAvg
from fedvssl.wire.record import pack, unpack
from fedvssl.wire.replies import UNKNOWN, read_update
from fedvssl.wire.wire import Reply, Update

NUM_CLIENTS, REPEATS = 5, 9
FACTS = {"loss": 1.0, "num-examples": 10}


def backbone_arrays() -> tuple[Arrays, Arrays]:
    """The backbone before a round, and a reply to it."""
    rng = np.random.default_rng(0)
    state = build_task(compose("base", [])).backbone.state_dict()
    sent = {f"backbone.{name}": tensor.numpy() for name, tensor in state.items()}
    trained = {
        name: array + (rng.normal(0, 1e-3, array.shape).astype(array.dtype) if array.dtype.kind == "f" else 1)
        for name, array in sent.items()
    }
    return sent, trained


def copy_messages(sent: Arrays, trained: Arrays) -> None:
    shared = pack(sent)
    for _ in range(NUM_CLIENTS):
        for message in (shared, pack(trained)):
            buffers: list[pickle.PickleBuffer] = []
            pickled = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
            unpack(pickle.loads(pickled, buffers=[bytes(buffer.raw()) for buffer in buffers]))


def check(sent: Arrays, trained: Arrays) -> None:
    bound = UpdateBound(max_factor=10, typical=Step(norm=1e3, least=1, most=1, statistics=1e3))
    replies = (Reply(who, trained, FACTS) for who in range(NUM_CLIENTS))
    updates = (read_update(reply, expected=sent, num_examples=10, report=UNKNOWN) for reply in replies)
    admitted = list(bound.admit(updates, sent, reject=lambda who, why: None))
    assert len(admitted) == NUM_CLIENTS
    check_growth(trained, sent, server_round=2)


def average(strategy: FedAvg, sent: Arrays, trained: Arrays) -> None:
    intake = strategy.intake(range(NUM_CLIENTS))
    for who in range(NUM_CLIENTS):
        intake.add(Update(who, trained, dict(FACTS)))
    strategy.aggregate(2, intake.finish(), sent)


def write_bytes(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def measure() -> list[Result]:
    """Seconds of each part, with its floor as the baseline."""
    sent, trained = backbone_arrays()
    config = compose("base", [])
    strategy = build_strategy(config["strategy"], config["training"], num_clients=NUM_CLIENTS, seed=7)
    target = {name: np.zeros_like(array) for name, array in sent.items()}
    content = b"".join(array.tobytes() for array in sent.values())

    def copy(times: int) -> Callable[[], None]:
        return lambda: [np.copyto(target[name], trained[name]) for _ in range(times) for name in target].clear()

    with TemporaryDirectory(dir=".") as here:  # and not in a temporary folder, which may lie in memory
        folder = Path(here)
        parts = {
            "copying": (lambda: copy_messages(sent, trained), copy(2 * NUM_CLIENTS)),
            "checks": (lambda: check(sent, trained), copy(NUM_CLIENTS)),
            "averaging": (lambda: average(strategy, sent, trained), copy(NUM_CLIENTS)),
            "saving": (lambda: save_arrays(folder / "a.npz", sent), lambda: write_bytes(folder / "floor", content)),
        }
        sides = {(part, side): work for part, works in parts.items() for side, work in enumerate(works)}
        seconds = alternate({f"{part} {side}": work for (part, side), work in sides.items()}, repeats=REPEATS)
    note = f"R3D-18, {NUM_CLIENTS} clients; the baseline is the floor"
    return [Result(f"round_{part}", "s", seconds[f"{part} 0"], seconds[f"{part} 1"], note=note) for part in parts]


def main() -> None:
    for result in measure():
        print(result.line())


if __name__ == "__main__":
    main()

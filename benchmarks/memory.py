"""Memory that the server needs to average the replies of a round.

    python -m benchmarks.memory

Replies of the size of R3D-18 (133 MB) are made only when the server pulls them. Ours is FedVSSL, which takes them one
by one from a `GridWire` and makes two averages. The baseline is Flower's own FedAvg, which averages the list of
`send_and_receive`. Each peak is that of a new process, beyond the sent arrays, which both sides have.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity

from benchmarks.measure import Result, peak_memory
from fedvssl.files.tensors import to_arrays
from fedvssl.models.r3d import R3D
from fedvssl.strategy.fedvssl import FedVSSL
from fedvssl.wire.grid import GridWire
from fedvssl.wire.introductions import Introductions
from fedvssl.wire.record import unpack

NUM_CLIENTS, MANY_CLIENTS = 5, 20
TIMEOUT = 600.0


class Clients(Grid):
    """Clients that reply with a copy of the arrays sent to them, made when the reply is pulled."""

    def __init__(self, num_clients: int) -> None:
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # a Message needs its run
        self.node_ids = list(range(1, num_clients + 1))
        self.sent: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        return self.node_ids

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        assert not self.sent
        for number, message in enumerate(messages):
            message.metadata.__dict__["_message_id"] = str(number)
            self.sent[str(number)] = message
        return list(self.sent)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [reply_to(self.sent.pop(number)) for number in message_ids]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any: ...

    def create_message(self, *_: Any, **__: Any) -> Any: ...


def reply_to(message: Message) -> Message:
    """Reply of one client: its partition id to a query, or else a copy of the arrays."""
    if message.metadata.message_type == "query":
        partition_id = message.metadata.dst_node_id - 1
        content: dict[str, Any] = {"client": MetricRecord({"partition-id": partition_id, "num-examples": 1})}
    else:
        received: Any = message.content["arrays"]
        arrays = ArrayRecord()
        for name, array in received.items():
            arrays[name] = Array(array.dtype, array.shape, array.stype, bytes(bytearray(array.data)))
        content = {"arrays": arrays, "metrics": MetricRecord({"loss": 1.0, "num-examples": 1})}
    return Message(RecordDict(content), reply_to=message)


@cache
def sent_arrays() -> ArrayRecord:
    """Arrays of R3D-18, made once, before the measured process is forked."""
    return ArrayRecord({name: Array(array) for name, array in to_arrays(R3D()).items()})


def average_ours(num_clients: int) -> None:
    rounds = {"fraction_fit": 1.0, "min_fit_clients": num_clients, "num_clients": num_clients, "seed": 7}
    waiting = {"num_clients": num_clients, "timeout": TIMEOUT, "stop": threading.Event()}
    wire = GridWire(Clients(num_clients), Introductions(num_clients), **waiting)
    FedVSSL(mix_coeff=0.9, swbeta=1, share=["*"], **rounds).round(wire, 2, unpack(sent_arrays()), {})


def average_baseline(num_clients: int) -> None:
    strategy = FedAvg(min_train_nodes=num_clients, min_available_nodes=num_clients)
    grid = Clients(num_clients)
    messages = strategy.configure_train(2, sent_arrays(), ConfigRecord(), grid)
    strategy.aggregate_train(2, grid.send_and_receive(messages))


def peak(work: Callable[[int], None], num_clients: int) -> float:
    """Peak memory of `work` in MB."""
    sent_arrays()
    return peak_memory(partial(work, num_clients)) / 1e6


def measure() -> Result:
    """Peak memory with 5 clients; prints the peaks with 20."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    many = [peak(work, MANY_CLIENTS) for work in (average_ours, average_baseline)]
    print(f"{MANY_CLIENTS} clients: ours {many[0]:.0f} MB, baseline {many[1]:.0f} MB")
    ours, baseline = peak(average_ours, NUM_CLIENTS), peak(average_baseline, NUM_CLIENTS)
    return Result("server_memory", "MB", [ours], [baseline], note=f"R3D-18, {NUM_CLIENTS} clients")


def main() -> None:
    print(measure().line())


if __name__ == "__main__":
    main()

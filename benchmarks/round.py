"""Cost of a federated round besides training: packing, transport, averaging, saving.

    python -m benchmarks.round

Both sides are real simulations of Flower on Ray. The backbone R3D-18 (133 MB) goes to 5 clients and comes back; as many
clients work at once as there are cores, and nothing is learned.
    ours      the command `fedvssl.main` with its default strategy (two averages, and the mean with the last round). One
              tiny video per client is decoded, augmented and put through the training loop; heads, a round file and
              records are written. Only the task's `forward` is left out, see `Untrained`.
    baseline  the apps of Flower's quickstart with its own FedAvg, without data or saving. A ClientApp builds the same
              task, loads the message's `to_torch_state_dict()` and replies with `ArrayRecord(state_dict)`.
A round lasts from its start to the start of the next. The first, in which the actors start, is reported separately. The
lower bound ("floor") is the time to copy the messages' bytes once. The split of our part follows, see round_parts.py.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import round_parts
from benchmarks.measure import Result
from fedvssl.building import build_task
from fedvssl.config import Config, compose
from fedvssl.files.environment import num_cores
from fedvssl.files.parent import end_with_parent
from fedvssl.tasks.ctp import CtP
from fedvssl.tasks.task import Batch

NUM_CLIENTS, NUM_ROUNDS = 5, 4
CPUS_PER_CLIENT = 1
SILENCE = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
SETTINGS = (
    "task.module._target_=benchmarks.round.Untrained",
    "task.sample.short_sides=[32]",
    "task.sample.crop_size=32",
    "task.sample.patches.scales=[6,8]",
    "training.batch_size=1",
    "training.num_workers=0",
    f"client_resources.num_cpus={CPUS_PER_CLIENT}",
    "client_resources.num_gpus=0",
    f"pool_size={NUM_CLIENTS}",
    f"strategy.min_fit_clients={NUM_CLIENTS}",
    f"rounds={NUM_ROUNDS}",
)


class Untrained(CtP):
    """Catch-the-Patch without a forward pass. One layer has a gradient of zeros, because the loop needs one."""

    def forward(self, batch: Batch) -> Batch:
        return {"loss": 1 + 0 * next(self.parameters()).sum()}

    def health(self) -> Batch:
        return {}


@dataclass(frozen=True)
class Rounds:
    """Seconds of each round, and the megabytes that one round sends and receives."""

    seconds: list[float]
    megabytes: float
    told: str = ""


def run_ours(folder: str) -> Rounds:
    """Rounds of the command's own `run`, on one tiny video."""
    from fedvssl.files.run_log import read_records
    from fedvssl.main import run

    config, run_dir = tiny_data(Path(folder)), Path(folder, "run")
    run_dir.mkdir()
    run(config, run_dir=run_dir)
    rounds = [record for record in read_records(run_dir / "metrics.jsonl") if "partition_id" not in record]
    saved = [(run_dir / f"round-{number}-weights.npz").stat().st_mtime_ns / 1e9 for number in range(1, NUM_ROUNDS + 1)]
    whole = [rounds[0]["seconds"], *np.diff(saved)]  # a round ends with its file
    inside = statistics.median(record["seconds"] for record in rounds[1:])
    aggregate = statistics.median(record["seconds_aggregate"] for record in rounds[1:])
    told = f"without saving and records {inside:.2f} s, of which averaging {aggregate:.2f} s"
    return Rounds(whole, (rounds[0]["bytes_up"] + rounds[0]["bytes_down"]) / 1e6, told)


def run_baseline(folder: str) -> Rounds:
    """Rounds of Flower's quickstart, timed when its strategy begins a round."""
    from flwr.app import ArrayRecord, Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    config = plain_config(folder)
    started: list[float] = []

    class TimedFedAvg(FedAvg):
        def configure_train(self, *arguments: Any) -> Any:
            started.append(time.perf_counter())
            return super().configure_train(*arguments)

    app = ServerApp()
    record = ArrayRecord(build_task(config).backbone.state_dict())

    @app.main()
    def train(grid: Grid, context: Context) -> None:
        nodes = {"min_train_nodes": NUM_CLIENTS, "min_available_nodes": NUM_CLIENTS, "fraction_evaluate": 0.0}
        TimedFedAvg(**nodes).start(grid, record, num_rounds=NUM_ROUNDS)
        started.append(time.perf_counter())

    backend: Any = {
        "client_resources": {"num_cpus": CPUS_PER_CLIENT, "num_gpus": 0.0},
        "init_args": {"address": "local", "num_cpus": num_cores(), "include_dashboard": False},
    }
    run_simulation(app, build_plain_app(config), NUM_CLIENTS, backend_config=backend)
    assert len(started) == NUM_ROUNDS + 1
    num_bytes = sum(len(array.data) for array in record.values())
    return Rounds(np.diff(started).tolist(), 2 * NUM_CLIENTS * num_bytes / 1e6)


def build_plain_app(config: Config) -> Any:
    """ClientApp of the quickstart, without the training."""
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        received: Any = message.content["arrays"]
        model = build_task(config).backbone
        model.load_state_dict(received.to_torch_state_dict())
        metrics = MetricRecord({"train_loss": 1.0, "num-examples": 1})
        return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)

    return app


def plain_config(folder: str) -> Config:
    places = (f"data_dir={folder}", f"data.media_dir={folder}/videos", f"partition_dir={folder}")
    return compose("base", [*SETTINGS, *places])


def tiny_data(folder: Path) -> Config:
    """Settings of a run on one video of 40x32 pixels, which every client has."""
    from data_tools.synthetic import make_video, write_video
    from fedvssl.data.annotations import Annotation, write_annotations

    rng = np.random.default_rng(0)
    write_video(folder / "videos/v.avi", make_video("Drift", rng, width=40, height=32, num_frames=20))
    for number in range(1, NUM_CLIENTS + 1):
        write_annotations(folder / f"client_dist{number}.json", [Annotation("v", 0)])
    return plain_config(str(folder))


def in_silence(work: Callable[[str], Rounds], folder: str) -> Rounds:
    """Run `work(folder)`; its output and that of its processes goes to `folder`/log.txt."""
    log = os.open(Path(folder, "log.txt"), os.O_WRONLY | os.O_CREAT, 0o644)
    sys.stdout.flush()
    for stream in (1, 2):
        os.dup2(log, stream)
    return work(folder)


def in_own_process(work: Callable[[str], Rounds]) -> Rounds:
    """Run one side in a new process, without the memory and the threads of the other."""
    options: dict = {"mp_context": get_context("spawn"), "initializer": end_with_parent}
    with TemporaryDirectory() as folder, ProcessPoolExecutor(1, **options) as pool:
        try:
            return pool.submit(in_silence, work, folder).result()
        except Exception:
            print(Path(folder, "log.txt").read_text()[-4000:], file=sys.stderr)
            raise


def gigabytes_per_second() -> float:
    """Speed of copying memory, the best of five."""
    source = np.ones(2**25, np.float32)
    target = np.zeros_like(source)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - started)
    return source.nbytes / min(seconds) / 1e9


def measure() -> Result:
    """Seconds of the rounds after the first; prints the first round and the lower bound."""
    os.environ.update(SILENCE)
    ours, baseline = in_own_process(run_ours), in_own_process(run_baseline)
    floor = ours.megabytes / 1e3 / gigabytes_per_second()
    print(f"first round: ours {ours.seconds[0]:.1f} s, baseline {baseline.seconds[0]:.1f} s")
    print(f"later rounds: ours {ours.told}")
    print(f"moved in a round: ours {ours.megabytes:.0f} MB, baseline {baseline.megabytes:.0f} MB; floor {floor:.2f} s")
    note = f"R3D-18, {NUM_CLIENTS} clients, no training"
    return Result("round_overhead", "s", ours.seconds[1:], baseline.seconds[1:], note=note)


def main() -> None:
    print(measure().line())
    print("\n".join(result.line() for result in round_parts.measure()))


if __name__ == "__main__":
    main()

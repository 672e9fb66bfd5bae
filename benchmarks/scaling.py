"""Speed by the workers of a loader and by the clients that share a GPU, with its upper bounds.

    python -m benchmarks.scaling --png docs/scaling.png --json scaling.json [--real_dir ../clips --ann_dir ../lists]

Two limits are measured too. Decoding: cores divided by the seconds in which one core only decodes the frames of a clip.
Arithmetic: the rate of the model's fastest convolution alone, divided by the GFLOP of a clip. The simulation is a run
of `fedvssl.main` and needs a GPU.
"""

import time
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.clips import Clips, clip_parser, prepared
from benchmarks.round import Rounds, in_own_process
from benchmarks.step import GFLOP_PER_CLIP, convolution_rates
from fedvssl.building import build_sample
from fedvssl.config import Config, compose
from fedvssl.data import sampling
from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.data.dataset import SampleDataset, train_loader
from fedvssl.data.video import open_video, zip_path
from fedvssl.files.atomic import atomic_path, write_json
from fedvssl.files.environment import machine, num_cores
from fedvssl.training.loop import build_fabric
from fedvssl.training.memory import keep_freed_memory, release_freed_memory
from fedvssl.training.precision import choose_precision

WORKERS = (0, 1, 2, 4, 8, 16)
CLIENTS = (1, 2, 3, 4)
BATCH_SIZE = 4
SAMPLES, DECODED_CLIPS = 600, 200  # per number of workers; for the limit
VIDEOS_PER_CLIENT, ROUNDS = 200, 3

Points = dict[int, float | None]  # None: open, because the machine is too small


@dataclass(frozen=True)
class Scaling:
    """Clips per second: by workers, by clients on one GPU, and the limits of decoding and arithmetic."""

    machine: str
    workers: Points
    clients: Points
    decode_limit: float
    arithmetic_limit: float

    def lines(self) -> list[str]:
        cores, gpu = f"open ({num_cores()} cores here)", "open (no GPU here)"
        shown = [f"loader, {n:2} workers        {_rate(rate, cores)}" for n, rate in self.workers.items()]
        shown += [f"simulation, {n} clients/GPU   {_rate(rate, gpu)}" for n, rate in self.clients.items()]
        limits = {"decoding alone": self.decode_limit, "convolution alone": self.arithmetic_limit}
        return shown + [f"limit, {name:20} {_rate(rate, '')}" for name, rate in limits.items()]


def measure(clips: Clips) -> Scaling:
    """Measure every point that this machine is large enough for, and both limits."""
    keep_freed_memory()  # as training does
    precision = choose_precision("auto", device="auto")
    convolution = max(convolution_rates(build_fabric(precision=precision), mixed=precision == "bf16-mixed"))
    torch.set_num_threads(1)  # as in a worker
    workers = {n: loader_rate(clips, num_workers=n) if n <= num_cores() else None for n in WORKERS}
    decode_limit = num_cores() / seconds_of_decoding(clips)
    clients = {n: simulation_rate(clips, n) if torch.cuda.is_available() else None for n in CLIENTS}
    return Scaling(
        machine(precision),
        workers,
        clients,
        decode_limit,
        convolution / GFLOP_PER_CLIP,
    )


def loader_rate(clips: Clips, *, num_workers: int) -> float:
    """Clips per second of the training loader, without its first tenth, because workers take long to start."""
    videos = list(islice(cycle(clips.annotations), SAMPLES))
    dataset = SampleDataset(clips.ours, videos, build_sample(compose("base", [])), seed_key=(7, 1, 0, 0))
    loader = train_loader(dataset, batch_size=BATCH_SIZE, num_workers=num_workers)
    release_freed_memory(loader)
    skipped, started = SAMPLES // 10 // BATCH_SIZE, 0.0
    for number, _ in enumerate(loader, start=1):
        if number == skipped:
            started = time.perf_counter()
    return (SAMPLES - skipped * BATCH_SIZE) / (time.perf_counter() - started)


def seconds_of_decoding(clips: Clips) -> float:
    """Seconds in which one core decodes one clip's frames."""
    settings, rng = build_sample(compose("base", [])), np.random.default_rng(7)
    draw = partial(sampling.random_clip, clip_len=settings.clip_len, strides=settings.strides, jitter=True)
    seconds = []
    for name in islice(cycle(clips.names), DECODED_CLIPS):
        video = open_video(clips.ours / f"{name}.zip")
        indices = draw(len(video), rng)
        started = time.perf_counter()
        video.read(indices)
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def simulation_rate(clips: Clips, num_clients: int, *settings: str) -> float:
    """Clips per second of a federated round in which `num_clients` train at once on one GPU.

    Args:
        settings: overrides, for a machine without a GPU.
    """
    return 1 / median(in_own_process(partial(run_clients, clips, num_clients, settings)).seconds[1:])


def run_clients(clips: Clips, num_clients: int, settings: tuple[str, ...], folder: str) -> Rounds:
    """Seconds per clip, in place of per round, of the command's own `run`."""
    from fedvssl.files.run_log import read_records
    from fedvssl.main import run

    run_dir = Path(folder, "run")
    run_dir.mkdir()
    run(clients_config(clips, num_clients, settings, Path(folder)), run_dir=run_dir)
    rounds = [record for record in read_records(run_dir / "metrics.jsonl") if "partition_id" not in record]
    return Rounds([1 / record["clips_per_second"] for record in rounds], 0.0)


def clients_config(clips: Clips, num_clients: int, settings: tuple[str, ...], folder: Path) -> Config:
    """Settings of a run whose clients share one GPU and all cores; writes a list for each of them into `folder`."""
    videos = [Annotation(name, 0) for name in _names_of_copies(clips, VIDEOS_PER_CLIENT)]
    for number in range(1, num_clients + 1):
        write_annotations(folder / f"client_dist{number}.json", videos)
    cores = max(1, num_cores() // num_clients)
    own = (
        *(f"data.media_dir={clips.ours}", f"partition_dir={folder}", f"rounds={ROUNDS}", f"pool_size={num_clients}"),
        *(f"client_resources.num_gpus={1 / num_clients}", f"client_resources.num_cpus={cores}"),
        *(f"training.num_workers={cores}", f"strategy.min_fit_clients={num_clients}", "keep_last=1"),
    )
    return compose("base", [*own, *settings])


def _names_of_copies(clips: Clips, number: int) -> list[str]:
    """Names of so many videos: links to those of `clips`, since a list has a video once."""
    names = [f"{name}_{index}" for index, name in enumerate(islice(cycle(clips.names), number))]
    for name in names:
        if not (link := zip_path(clips.ours, name)).is_file():
            link.hardlink_to(zip_path(clips.ours, name.rpartition("_")[0]))
    return names


def draw(scaling: Scaling, png: Path) -> None:
    """Draw the measured points, and the limits as lines."""
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    figure.suptitle(scaling.machine, fontsize=10)
    left, right = figure.subplots(1, 2, sharey=True)
    cores, most = num_cores(), scaling.decode_limit
    by_workers = {n: most * min(max(n, 1), cores) / cores for n in range(max(WORKERS) + 1)}
    by_clients = {n / 2: most for n in range(1, 2 * max(CLIENTS) + 2)}
    _show(left, scaling.workers, by_workers, scaling, missing=f"open ({cores} cores here)")
    left.set(title="training loader", xlabel="workers", ylabel="clips per second")
    _show(right, scaling.clients, by_clients, scaling, missing="open (no GPU here)")
    right.set(title="simulation", xlabel="clients at once on one GPU")
    with atomic_path(png) as temporary:
        figure.savefig(temporary, dpi=120)


def _show(axes: Axes, points: Points, decode: dict, scaling: Scaling, *, missing: str) -> None:
    measured = {n: rate for n, rate in points.items() if rate is not None}
    still_open = [n for n in points if n not in measured]
    if measured:
        axes.plot(*zip(*measured.items(), strict=True), "o-", label="measured")
    if still_open:
        axes.axvspan(min(still_open) - 0.4, max(still_open) + 0.4, color="0.93")
        axes.text(median(still_open), scaling.decode_limit / 2, missing, ha="center")
    cores_label = f"limit: cores that only decode, {scaling.decode_limit:.4g}/s with {num_cores()}"
    axes.plot(*zip(*decode.items(), strict=True), "--", color="tab:red", label=cores_label)
    arithmetic = f"limit: the model at the rate of its fastest convolution, {scaling.arithmetic_limit:.4g}/s"
    axes.axhline(scaling.arithmetic_limit, ls=":", color="tab:purple", label=arithmetic)
    axes.set(xticks=list(points), yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12))


def _rate(rate: float | None, otherwise: str) -> str:
    return otherwise if rate is None else f"{rate:.4g} clips/s"


def main() -> None:
    """The command."""
    parser = clip_parser(__doc__)
    parser.add_argument("--png", type=Path, help="file for the plot")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    with prepared(args) as clips:
        scaling = measure(clips)
    print(scaling.machine, *scaling.lines(), sep="\n")
    if args.json:
        write_json(args.json, asdict(scaling))
    if args.png:
        draw(scaling, args.png)


if __name__ == "__main__":
    main()

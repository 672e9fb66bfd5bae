"""Does a view find its picture's other view among those of its own step? For each round of runs of a task of two views.

    python -m benchmarks.instances experiment=mocosfl_small data_dir=data --runs outputs/try

A queue holds keys of earlier steps, so a network that drifts tells its own step from the queue without telling one
picture from another. Here both views pass through the network of one round, and the others are of the same step:
chance is one in `--size`. Beside it the mean cosine of the two views of a picture and of different pictures.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fedvssl.building import build_sample, build_task
from fedvssl.config import compose
from fedvssl.data.annotations import read_annotations
from fedvssl.data.dataset import SampleDataset, stack
from fedvssl.files.arrays import load_arrays
from fedvssl.tasks.heads import embed, embedding_std
from fedvssl.training.loop import seed_torch

STEPS = 10


def steps_of(config: dict[str, Any], task: Any, *, size: int) -> list[tuple[Tensor, Tensor]]:
    """Both views of this many training pictures of all clients, for each step."""
    lists = sorted(Path(config["partition_dir"]).glob("client_dist*.json"))
    pictures = [one for path in lists for one in read_annotations(path)]
    order = np.random.default_rng(config["seed"]).permutation(len(pictures))[: STEPS * size]
    sample = build_sample(config)
    views = SampleDataset(Path(config["data"]["media_dir"]), pictures, sample, seed_key=(config["seed"], 0, 0, 0))
    batches = [stack([views[int(index)] for index in own]) for own in np.array_split(order, STEPS)]
    return [(made["view1"], made["view2"]) for made in map(task.augment, batches)]


@torch.no_grad()
def told(task: Any, steps: list[tuple[Tensor, Tensor]]) -> str:
    """A row of the table, means over the steps."""
    found = []
    for views in steps:
        first, second = (normalize(embed(task.backbone, task.projector, view), dim=1) for view in views)
        cosines = first @ second.T
        number = len(cosines)
        hits = (cosines.argmax(1) == torch.arange(number)).float().mean()
        same = cosines.diag().mean()
        others = (cosines.sum() - cosines.diag().sum()) / (number**2 - number)
        found.append(torch.stack([100 * hits, same, others, embedding_std(first)]))
    hits, same, others, spread = torch.stack(found).mean(0).tolist()
    return f"{hits:.1f} | {same:.3f} | {others:.3f} | {spread:.2f} |"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="overrides of fedvssl.main")
    parser.add_argument("--runs", nargs="+", type=Path, required=True)
    parser.add_argument("--size", type=int, default=100, help="pictures of a step")
    settings = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    config = compose("base", settings.words)
    seed_torch((config["seed"],))
    task = build_task(config).eval()
    steps = steps_of(config, task, size=settings.size)
    print("| run | round | found, % | cosine of the views | of others | embedding_std |\n" + "|---" * 6 + "|")
    print(f"| initial | 0 | {told(task, steps)}", flush=True)
    for run in settings.runs:
        for path in sorted(run.glob("round-*-weights.npz"), key=lambda path: int(path.name.split("-")[1])):
            arrays = {name: torch.from_numpy(array) for name, array in load_arrays(path).items()}
            task.load_state_dict({**task.state_dict(), **arrays})
            print(f"| {run.name} | {path.name.split('-')[1]} | {told(task, steps)}", flush=True)


if __name__ == "__main__":
    main()

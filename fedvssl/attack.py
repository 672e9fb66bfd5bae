"""Attack the privacy of a run of split learning: reconstruct its clients' pictures from the latents that they send.

    python -m fedvssl.attack run=last
    python -m fedvssl.attack run=defended control=undefended
    python -m fedvssl.attack checkpoint=<run>/round-20-weights.npz num_victims=32 attacker.epochs=10

A server that keeps to the rules, but is curious, trains a decoder on pictures of its own and applies it to latents of
pictures of the clients. Prints how near the reconstructions are (higher MSE: better protection) with the accuracy of
the backbone beside, for the run, its undefended control and random weights, and for a guess that sees no latents.
Writes attack.json, and attack.png with originals and reconstructions. What it tells: docs/systems/mocosfl.md.
"""

import sys

from fedvssl.early import answered

if __name__ == "__main__" and answered("attack"):  # before PyTorch is imported, which takes seconds
    sys.exit()

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedvssl.building import build, build_task
from fedvssl.chosen_run import ROUND, with_run
from fedvssl.config import Config, compose
from fedvssl.data.annotations import Annotation, lists_in, read_annotations
from fedvssl.data.dataset import SampleDataset
from fedvssl.data.split import Split
from fedvssl.data.splits import listed_videos
from fedvssl.files.arrays import BACKBONE, Arrays
from fedvssl.files.atomic import atomic_path, write_json
from fedvssl.files.ending import exit_code
from fedvssl.files.given import given_file
from fedvssl.files.lock import owned_output
from fedvssl.files.results import CHECKPOINT, change_in, free_folder, from_here, refuse_other
from fedvssl.files.runs import choose
from fedvssl.files.tensors import load_arrays_into
from fedvssl.overrides import parse_overrides
from fedvssl.server_evaluation import build_evaluations
from fedvssl.trained_run import TrainedRun, read_round

RUN, CONTROL, RANDOM, GUESS = "run", "control", "random weights", "mean picture"
MEASURES = {"mse": "MSE", "ssim": "SSIM", "psnr": "PSNR (dB)"}
ACCURACIES = {"eval_knn_top1_acc": "kNN top-1", "eval_R@1": "R@1"}
SHOWN = 10  # pictures


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return exit_code(lambda: attack(compose("attack", parse_overrides(with_run("attack", words)))))


@dataclass(frozen=True)
class Pictures:
    """Pictures of the attack, uint8 [B,H,H,3] each.

    Args:
        known: of the server.
        victims: of the clients.
        names: of the victims.
    """

    known: Tensor
    victims: Tensor
    names: list[str]


def attack(config: Config) -> None:
    """Attack a run, print the table and write attack.json and attack.png.

    Raises:
        ValueError: for a round that is none of split learning on pictures, a defended run without a control, or too few
            pictures, before the work starts.
    """
    checkpoint = given_file(config["checkpoint"], command="attack")
    own = [] if config["data_dir"] == "auto" else [f"data_dir={config['data_dir']}"]
    run, attacker = read_split(checkpoint, own), build(config["attacker"])
    others: dict[str, tuple[TrainedRun, Arrays]] = {}
    if config["control"] is not None:
        control = read_split(control_path(config["control"]), own)
        refuse_defended_control(control)
        others[CONTROL] = control, control.of_clients[0]
    elif defended(run):
        raise ValueError(
            "The latents of this run are defended, or its clients are frozen: name the same training undefended "
            "(an expert with strategy.privacy_weight=0) with control=<run>, or the figures tell nothing."
        )
    rows = {RUN: (run, run.of_clients[0]), **others, RANDOM: (run, run.initial)}
    pictures = choose_pictures(
        run, num_known=config["num_known"], num_victims=config["num_victims"], seed=config["seed"]
    )
    conditions = {name: config[name] for name in ("control", "num_known", "num_victims", "seed", "attacker")}
    folder = result_folder(config["work_dir"], checkpoint, conditions)
    with owned_output(path := folder / "attack.json"):
        found: dict[str, dict[str, float]] = {}
        shown = {"original": pictures.victims.numpy()}
        for name, (own_run, state) in rows.items():
            print(f"{name}:", flush=True)
            found[name], reconstructions = attack_row(attacker, own_run, state, pictures)
            shown[name] = (reconstructions.permute(0, 2, 3, 1) * 255).round().byte().numpy()
        found[GUESS] = guess(attacker, pictures)
        print(table(found))
        facts = {CHECKPOINT: from_here(checkpoint, folder), "conditions": conditions, "victims": pictures.names}
        write_json(path, {**facts, "defended": defended(run), "rows": found})
        draw(path.with_suffix(".png"), shown)
    print(f"{path} and .png")


def read_split(checkpoint: Path, overrides: Sequence[str]) -> TrainedRun:
    """Read a round of split learning on pictures.

    Raises:
        ValueError: if it is none.
    """
    run = read_round(checkpoint, overrides)
    if "cut" not in run.config["strategy"]:
        raise ValueError(f"{run.folder} is no run of split learning: its clients send weights and no latents.")
    if "clip_len" in run.config["task"]["sample"]:
        raise ValueError(f"{run.folder} is a run on clips: the decoder of this attack makes pictures.")
    return run


def control_path(name: str) -> Path:
    """Round file of the control: itself, or the last one of a run that is named."""
    return path if (path := Path(name).expanduser()).is_file() else choose(name, ROUND)


def defended(run: TrainedRun) -> bool:
    """True if the latents may be defended: by a privacy loss, or by the expert that frozen clients come from."""
    strategy = run.config["strategy"]
    return bool(strategy.get("frozen")) or strategy.get("privacy_weight", 0) > 0


def refuse_defended_control(control: TrainedRun) -> None:
    """Reject a control with a privacy loss; where frozen clients come from cannot be told here.

    Raises:
        ValueError: naming it.
    """
    if control.config["strategy"].get("privacy_weight", 0) > 0:
        raise ValueError(f"control={control.folder} is defended too: its strategy.privacy_weight is not 0.")


def choose_pictures(run: TrainedRun, *, num_known: int, num_victims: int, seed: int) -> Pictures:
    """Draw the server's pictures from the test list without those of clients, and the victims from the clients' lists.

    Raises:
        ValueError: if there are too few.
    """
    paths = lists_in(run.config["partition_dir"], run.config["pool_size"])
    clients = {annotation.name: annotation for path in paths for annotation in read_annotations(path)}
    tests = listed_videos(Split.of(run.config["data"]), "test")
    others = {annotation.name: annotation for annotation in tests if annotation.name not in clients}
    rng, drawn = np.random.default_rng(seed), list[list[Annotation]]()
    for setting, number, least, place in (
        ("num_known", num_known, 2, others),
        ("num_victims", num_victims, 1, clients),
    ):
        if not least <= number <= len(place):
            where = "the test list has, that no client holds" if place is others else "the clients hold"
            raise ValueError(f"{setting}={number} must be {least} to {len(place)}, the pictures that {where}.")
        names = [*place]
        drawn.append([place[names[index]] for index in rng.choice(len(names), number, replace=False)])
    media_dir, sample = Path(run.config["data"]["media_dir"]), build(run.config["eval"]["sample"])
    known, victims = (
        torch.cat([SampleDataset(media_dir, some, sample, seed_key=(seed,))[i]["frames"] for i in range(len(some))])
        for some in drawn
    )
    return Pictures(known, victims, [annotation.name for annotation in drawn[1]])


def attack_row(attacker: Any, run: TrainedRun, state: Arrays, pictures: Pictures) -> tuple[dict[str, float], Tensor]:
    """Measures and accuracies of one network, and the reconstructions of the victims [B,3,H,H]."""
    torch.manual_seed(0)
    task, strategy, training = build_task(run.config), run.config["strategy"], run.config["training"]
    load_arrays_into(task, {name: array for name, array in state.items() if name.startswith(BACKBONE)})
    size = max(1, training["batch_size"] // run.config["pool_size"])
    sent = {"cut": strategy["cut"], "wire_dtype": strategy.get("wire_dtype", "float32"), "size": size}
    both = torch.cat([pictures.known, pictures.victims])
    known, victims = attacker.latents(task, both, **sent).split([len(pictures.known), len(pictures.victims)])
    decoder = attacker.train(known, pictures.known, report=lambda line: print(f"  {line}", flush=True))
    reconstructions = attacker.reconstruct(decoder, victims)
    return {**means(attacker.measure(pictures.victims, reconstructions)), **accuracies(run, state)}, reconstructions


def accuracies(run: TrainedRun, state: Arrays) -> dict[str, float]:
    """Accuracies of the whole backbone on the data of the run, without training."""
    evaluations = build_evaluations({**run.config, "eval": {**run.config["eval"], "every": 1}})
    assert evaluations is not None, "eval.every is 1"
    own = {name: array for name, array in state.items() if name.startswith(BACKBONE)}
    found = evaluations.monitor(own, label="")
    return {name: found[name] for name in ACCURACIES if name in found}


def guess(attacker: Any, pictures: Pictures) -> dict[str, float]:
    """Measures of the server's mean picture, which needs no latents: an attack no better has learned nothing."""
    mean = pictures.known.float().mean(dim=0).permute(2, 0, 1) / 255
    return means(attacker.measure(pictures.victims, mean.expand(len(pictures.victims), *mean.shape)))


def means(measures: Mapping[str, Tensor]) -> dict[str, float]:
    """The mean over the pictures of each measure, and "<measure>_se", its standard error."""
    found = {name: float(values.mean()) for name, values in measures.items()}
    errors = {f"{name}_se": float(values.std()) / math.sqrt(len(values)) for name, values in measures.items()}
    return found | (errors if all(len(values) > 1 for values in measures.values()) else {})


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Measures with their standard errors, accuracies in percent."""
    heads = [*MEASURES.values(), *ACCURACIES.values()]
    lines = ["".join([" " * 16, *(head.rjust(20) for head in heads)])]
    for name, row in rows.items():
        cells = [f"{row[own]:.4f} +- {row.get(f'{own}_se', math.nan):.4f}" for own in MEASURES]
        cells += [f"{100 * row[own]:.1f} %" if own in row else "-" for own in ACCURACIES]
        lines.append("".join([name.ljust(16), *(cell.rjust(20) for cell in cells)]))
    return "\n".join(lines)


def result_folder(work_dir: str | None, checkpoint: Path, conditions: Mapping[str, Any]) -> Path:
    """The configured work_dir, or a folder beside the checkpoint that holds no attack with other settings.

    Raises:
        ValueError: if the configured one holds such an attack.
    """

    def change(folder: Path) -> str | None:
        now = {**conditions, CHECKPOINT: from_here(checkpoint, folder)}
        path = folder / "attack.json"
        return change_in(path, now, lambda result: {**result["conditions"], CHECKPOINT: result[CHECKPOINT]})

    if work_dir:
        refuse_other(Path(work_dir) / "attack.json", change(Path(work_dir)))
        return Path(work_dir)
    return free_folder(checkpoint.parent / "attack" / checkpoint.stem, change)


def draw(png: Path, rows: Mapping[str, np.ndarray]) -> None:
    """Draw the first victims: a row of originals uint8 [B,H,H,3], and one of reconstructions for each network."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    columns = min(SHOWN, len(rows["original"]))
    figure = Figure(figsize=(1 + columns, 1.1 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(name)
        for place, picture in zip(line, pictures[:columns], strict=True):
            place.imshow(picture)
            place.set(xticks=[], yticks=[])
    with atomic_path(png) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


if __name__ == "__main__":
    sys.exit(main())

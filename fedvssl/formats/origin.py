"""Origin of a checkpoint: its training and evaluation, from the run's folder; no paths, because a card is passed on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedvssl.data.seen import allowed_numbers, read_seen
from fedvssl.files.atomic import read_json
from fedvssl.files.references import names_in
from fedvssl.files.rounds import round_of
from fedvssl.files.run_log import read_config
from fedvssl.files.runs import BEST, FINE_TUNED
from fedvssl.files.settings import class_name, strategy_name
from fedvssl.files.tensors import load_torch
from fedvssl.strategy.rounds import sample_size


def training_facts(checkpoint: Path) -> dict[str, str]:
    """Facts about the training from config.yaml beside a checkpoint, by the names in the card.

    Returns:
        Nothing if config.yaml is missing or of another run, such as the fine-tuning that reads a model_pretrained.pth.

    Raises:
        ValueError: if config.yaml cannot be read.
    """
    config = read_config(checkpoint.parent / "config.yaml")
    try:
        server_round = round_of(checkpoint)
        if server_round is not None and "strategy" in config:
            return _pretraining(config, server_round=server_round) | _test_videos(checkpoint)
        if checkpoint.name in (FINE_TUNED, BEST) and "pretrained" in config:
            saved = load_torch(checkpoint) if checkpoint.is_file() else {}
            facts = _finetuning(config, saved.get("epoch"), best=checkpoint.name == BEST)
            facts |= _test_videos(checkpoint)
            # Earlier versions had neither setting.
            own, few = config["data"].get("train_list"), config.get("labels_per_class")
            return facts | _samples(saved.get("training_samples"), own, few)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{checkpoint.parent / 'config.yaml'} is not the one of a run ({error!r}).") from error
    return {}


def origin_names(checkpoint: Path) -> set[str]:
    """Names of classes and data sets of the training and the evaluations, by which papers are cited."""
    known = read_config(checkpoint.parent / "config.yaml") if training_facts(checkpoint) else {}
    return names_in(known) | {result["dataset"] for result in evaluations(checkpoint)}


def evaluations(checkpoint: Path) -> list[dict[str, Any]]:
    """Results of the evaluation commands for this checkpoint, from evaluation/*/ beside it, in order of file names.

    Raises:
        ValueError: if a file is no JSON.
    """
    results = [read_json(path) for path in sorted((checkpoint.parent / "evaluation").glob("*/*.json"))]
    return [
        result
        for result in results
        if isinstance(result, dict)
        and {"protocol", "rows", "checkpoint", "dataset", "split"} <= result.keys()
        and Path(result["checkpoint"]).name == checkpoint.name  # other rounds of the run may lie there too
    ]


def _pretraining(config: dict[str, Any], *, server_round: int) -> dict[str, str]:
    strategy, training, sample = config["strategy"], config["training"], config["task"]["sample"]
    if strategy.get("fedavg"):
        aggregation = {"strategy": "FedAvg of the whole model"}
    else:
        aggregation = {"strategy": strategy_name(strategy)}
        if share := strategy.get("share"):  # earlier versions name none
            private = config["task"].get("private") or []
            aggregation["arrays that travel"] = ", ".join([*share, *(f"without {pattern}" for pattern in private)])
        symbols = {"mix_coeff": "alpha (mix_coeff)", "swbeta": "beta (swbeta)"}
        aggregation |= {label: str(strategy[key]) for key, label in symbols.items() if key in strategy}
    return {
        "pre-training data": f"{config['data']['name']} split {config['data']['split']}, without labels",
        "pretext task": class_name(config["task"]["module"]),
        **aggregation,
        "clients": f"{config['pool_size']}, of which {_sampled(config)} train in a round",
        "rounds": f"{server_round} (the run was set to {config['rounds']})",
        "local epochs in a round": str(training["local_epochs"]),
        "batch size, learning rate": f"{training['batch_size']}, {training['lr']}",
        **_recipe(training),
        **_inputs(sample, side="crop_size" if "crop_size" in sample else "max_side"),
        "seed": str(config["seed"]),
    }


def _sampled(config: dict[str, Any]) -> int:
    """Number of clients that train in a round."""
    sampling = {name: config["strategy"][name] for name in ("fraction_fit", "min_fit_clients")}
    return sample_size(config["pool_size"], **sampling)


def _finetuning(config: dict[str, Any], epoch: int | None, *, best: bool) -> dict[str, str]:
    training, validation = config["training"], config["data"].get("validation")
    held_out = {}
    if validation is not None:
        chosen = "; the epoch was chosen by their accuracy" if best else ""
        seed = config["data"]["validation_seed"]
        medium = "videos" if "clip_len" in config else "pictures"
        held_out = {"held out": f"{validation:g} of the training {medium} (seed {seed}){chosen}"}
    elif best:  # of an earlier version
        held_out = {"epoch": "chosen by its accuracy on the test videos"}
    start = "random weights" if config["from_scratch"] else Path(config["pretrained"]).name
    return {
        "fine-tuned on": f"{config['data']['name']} split {config['data']['split']}, with labels "
        f"({config['data']['num_classes']} classes); the classifier is left out here",
        **held_out,
        "started from": start,
        "epochs": f"{'an unknown number' if epoch is None else epoch} (the run was set to {training['epochs']})",
        "batch size, learning rate": f"{training['batch_size']}, {training['lr']}",
        **_recipe(training),
        **_inputs(config, side="crop_size"),
        "seed": str(config["seed"]),
    }


def _samples(number: int | None, own: str | None, few: int | None) -> dict[str, str]:
    """Row about the training samples if they are of a list of one's `own`, or a `few` of each class."""
    words = [f"those of {Path(own).name}"] if own else []
    words += [f"at most {few} of each class"] if few else []
    return {"training samples": ", ".join([str(number)] * (number is not None) + words)} if words else {}


def _inputs(settings: Mapping[str, Any], *, side: str) -> dict[str, str]:
    """Row about the clips or pictures; nothing if a Sample of somebody's own has other settings."""
    if side not in settings:
        return {}
    if "clip_len" in settings:
        return {"clips": f"{settings['clip_len']} frames, crops of {settings[side]} pixels"}
    return {"pictures": f"{settings[side]} pixels"}


def _test_videos(checkpoint: Path) -> dict[str, str]:
    """Row about test videos in the training, if there were any."""
    record = read_seen(checkpoint) if checkpoint.is_file() else {}
    stages = [f"{stage} had {number}" for stage, number in allowed_numbers(record).items()]
    words = "of those of its split (data.allow_test_videos=true): accuracies on these are no test"
    return {"test videos": f"{' and '.join(stages)} {words}"} if stages else {}


def _recipe(training: dict[str, Any]) -> dict[str, str]:
    """Classes of the optimizer and its schedule; runs of earlier versions do not name them."""
    return {name: class_name(training[name]) for name in ("optimizer", "schedule") if name in training}

"""Type and range of each setting in one table, checked when a configuration is composed, before PyTorch is imported.

Settings below a `_target_` outside of this package are left to its class, and so are names that the table lacks.
Checks of several settings together, such as a crop that must fit into a picture, are with the classes that use them.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST = 10**9  # of whole numbers that have no other bound: each becomes a size, a length or a number of repetitions
OURS = ("fedvssl.", "torch.optim.")  # beginnings of the classes whose settings are in the table
MEASURED = ("task", "module")  # settings below may be "auto", see fedvssl.preflight.measured
LONGEST_SHOWN = 80  # characters of a wrong value


@dataclass(frozen=True)
class Kind:
    """Values that a setting may have.

    Args:
        fits: True for these values.
        words: completes the sentence "<name>=<value> must be ...".
    """

    fits: Callable[[Any], bool]
    words: str


def whole(least: int = 0, most: int = MOST) -> Kind:
    words = f"a whole number, at least {least}" + (f" and at most {most:,}" if most < MOST else "")
    return Kind(lambda value: type(value) is int and least <= value <= most, words)


def number(least: float = 0, most: float = MOST, *, above: bool = False, below: bool = False) -> Kind:
    """Numbers from `least` to `most`; `above` and `below` leave out the ends themselves."""
    if above or below or not most <= 1:
        words = f"a number above {least:g}" if above else f"a number, at least {least:g}"
        words += "" if most >= MOST else f" and {'below' if below else 'at most'} {most:g}"
    else:
        words = f"a number from {least:g} to {most:g}"

    def fits(value: Any) -> bool:
        is_number = type(value) in (int, float) and least <= value <= most
        return is_number and not (above and value == least) and not (below and value == most)

    return Kind(fits, words)


def one_of(*names: Any) -> Kind:
    flags = [name for name in names if isinstance(name, bool)]

    def fits(value: Any) -> bool:
        return value in flags if isinstance(value, bool) else value in names  # 1.0 is 1, but true is not

    return Kind(fits, _listed(names))


def each(kind: Kind, *, least: int = 1, most: int = 1000) -> Kind:
    """Lists of `least` to `most` values of one kind."""
    many = f" of {least}" if least == most else ""
    words = f"a list{many}, each entry {kind.words}"

    def fits(value: Any) -> bool:
        return isinstance(value, list | tuple) and least <= len(value) <= most and all(map(kind.fits, value))

    return Kind(fits, words)


def either(*kinds: Kind) -> Kind:
    return Kind(lambda value: any(kind.fits(value) for kind in kinds), " or ".join(kind.words for kind in kinds))


def _listed(names: tuple[Any, ...]) -> str:
    shown = ["null" if name is None else str(name) for name in names]
    return " or ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


ANY = Kind(lambda value: True, "")  # checked where it is used
FLAG = Kind(lambda value: isinstance(value, bool), "true or false")
NULL, AUTO = one_of(None), one_of("auto")
# A shell takes the outer pair of quotes.
TEXT = Kind(
    lambda value: isinstance(value, str) and value.strip() != "", "a text (in quotes like \"'7'\" if it is a number)"
)
SECTION = Kind(lambda value: isinstance(value, dict), "a section of settings")
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
CLASS = Kind(lambda value: isinstance(value, str) and bool(DOTTED.fullmatch(value)), "the dotted name of a class")
NAMES = Kind(
    lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "a list of names, such as [head.*]",
)
SHARE, RATE = number(0, 1), number(0, 1000)
# oneDNN has crashed in bfloat16 convolutions of clips with 1 to 3 pixels; a frame of 4,096 has 48 MB.
SIDE = whole(8, 4096)
CHANNELS = whole(1, 65536)

# Name of a setting, or the end of its path -> its kind; the longest end that fits counts.
KINDS: dict[str, Kind] = {
    # sections
    **dict.fromkeys(
        ("data", "eval", "model", "task", "strategy", "training", "client_resources", "protocol", "ray"), SECTION
    ),
    **dict.fromkeys(("sample", "train_sample", "test_sample", "task.module", "task.sample", "strategy.rule"), SECTION),
    **dict.fromkeys(("task.backbone", "recognizer", "views", "draw", "predictor", "projector", "patches"), SECTION),
    "attacker": SECTION,
    **dict.fromkeys(("training.optimizer", "training.schedule", "strategy.strategy"), SECTION),
    **dict.fromkeys(("protocols", "protocols.*"), either(NULL, SECTION)),
    "_target_": CLASS,
    "_partial_": FLAG,
    **dict.fromkeys(("overrides", "rows", "measures", "seeds", "splits", "formats", "param_groups"), ANY),
    # files
    **dict.fromkeys(("exp_name", "data_dir", "partition_dir", "feature_dir", "name", "media_dir"), TEXT),
    **dict.fromkeys(("annotation_dir", "results_dir", "engine"), TEXT),
    **dict.fromkeys(
        (
            *("checkpoint", "control", "pretrained", "init", "work_dir", "out_dir", "train_list", "baseline"),
            *("ray.address", "cache_dir"),
        ),
        either(NULL, TEXT),
    ),
    # clients and rounds
    "pool_size": whole(1, 10**6),
    "rounds": whole(1),
    "from_round": either(NULL, whole()),
    "keep_last": either(NULL, whole(1)),
    "seed": whole(0, 2**63 - 1),
    **dict.fromkeys(("round_timeout", "start_timeout"), number(1)),
    "num_gpus": number(),
    "num_cpus": number(1),
    "fraction_fit": SHARE,
    "min_fit_clients": whole(1),
    "max_update_factor": either(NULL, number(1, above=True)),
    "oversized_updates": one_of("reject", "clip"),
    "share": NAMES,
    "mix_coeff": SHARE,
    "swbeta": one_of(0, 1),
    **dict.fromkeys(("fedavg", "statistics", "selective", "verbose", "progress", "allow_changes"), FLAG),
    "fedavg_rounds": whole(),
    "server_lr": number(0, 1000, above=True),
    **dict.fromkeys(("beta1", "beta2", "strategy.momentum"), number(0, 1, below=True)),
    "tau": number(0, 1, above=True),
    "rule.tau": SHARE,
    "threshold": number(0, math.inf),
    "scaler": either(NULL, number()),
    "sends": one_of("encoder", "follower"),
    "follower": TEXT,
    **dict.fromkeys(("own_encoder", "own_predictor", "own_follower"), SHARE),
    **dict.fromkeys(("personal", "private", "task.frozen", "layers", "mix"), NAMES),
    **dict.fromkeys(("cut", "bottleneck_after", "wire_dtype"), TEXT),
    "bottleneck": either(NULL, TEXT),
    **dict.fromkeys(("frozen", "sends_views"), FLAG),
    "target_ssim": SHARE,
    "privacy_weight": number(0, 1000),
    "attacker_lr": number(0, 1000, above=True),
    "attacker_steps": each(whole(), least=0),
    "average_momentum": either(NULL, FLAG),
    "syncs_per_round": whole(1, 10**6),
    **dict.fromkeys(("steps_per_message", "private_queues"), whole(0, 10**6)),
    # data
    "split": either(whole(), TEXT),
    "num_classes": either(AUTO, whole(1, 10**6)),
    "validation": either(NULL, number(0, above=True)),
    "validation_seed": whole(),
    "labels_per_class": either(NULL, whole(1)),
    **dict.fromkeys(("allow_test_videos", "from_scratch", "held_out", "reshuffle"), FLAG),
    # training
    **dict.fromkeys(("local_epochs", "epochs", "length", "warn_after"), whole(1)),
    **dict.fromkeys(("eval_every", "eval.every"), either(NULL, whole(1))),
    **dict.fromkeys(("batch_size", "test_batch_size", "max_videos", "num_victims"), whole(1)),
    "keep_megabytes": whole(0, 10**6),
    "num_known": whole(2),
    **dict.fromkeys(("drop_last", "keep_optimizer", "compile", "decay_norm_and_bias", "symmetric", "reset_keys"), FLAG),
    "lr": number(0, 1000, above=True),
    # Null where conf/optimizer has no use for the published spelling.
    "training.lr": either(NULL, number(0, 1000, above=True)),
    "training.momentum": either(NULL, SHARE),
    "training.weight_decay": either(NULL, RATE),
    "momentum": SHARE,
    "weight_decay": RATE,
    "mu": RATE,
    "steps": either(NULL, each(whole(), least=0)),
    "gamma": either(NULL, RATE),
    "warmup_steps": whole(),
    "max_norm": number(0, above=True),
    "precision": one_of("auto", "32-true", "bf16-mixed", "16-mixed"),
    "device": one_of("auto", "cpu", "cuda"),
    "devices": whole(1, 10**4),
    "num_workers": either(AUTO, whole(0, 1024)),
    "dropout": SHARE,
    # models and tasks
    "depth": whole(1, 1000),
    "weights": TEXT,
    **dict.fromkeys(("image_size", "side"), SIDE),
    **dict.fromkeys(("patch_size", "heads", "window", "num_boxes"), whole(1, 1024)),
    **dict.fromkeys(("max_shift", "overlays"), whole(0, 4096)),
    "channels": CHANNELS,
    "width": whole(1, 4096),
    "stem": TEXT,
    "spatial_strides": each(whole(1, 8)),
    "hidden_channels": either(NULL, CHANNELS, one_of("input")),
    "out_channels": CHANNELS,
    "queue_length": whole(1, 10**7),
    "roi_size": whole(1, 64),
    "head_init": TEXT,
    "target_stds": either(AUTO, each(number(0, above=True), least=4, most=4)),
    "temperature": number(0, 1000, above=True),
    "ks": each(whole(1)),
    **dict.fromkeys(("mean", "std"), each(number(0, 1), least=3, most=3)),
    # clips and pictures
    "clip_len": whole(1, 4096),
    "num_clips": whole(1, 4096),
    "frame_stride": whole(1, 10**6),
    "strides": each(whole(1, 10**6)),
    **dict.fromkeys(("crop_size", "max_side", "short_side"), SIDE),
    "motion_probe.sample.short_side": number(0, 4096, above=True),
    "protocol.sample.short_side": number(0, 4096, above=True),
    "short_sides": each(SIDE),
    "size": each(SIDE, least=2, most=2),
    "sizes": each(each(SIDE, least=2, most=2)),
    **dict.fromkeys(("num_blocks", "num_predicted", "memory_size"), CHANNELS),
    **{"speeds": each(whole(-4096, 4096)), "gap": whole(0, 4096), "batch_norm": FLAG},
    "padding": whole(0, 4096),
    **dict.fromkeys(("velocity", "start_jitter", "frame_jitter"), number()),
    **dict.fromkeys(("brightness", "hue"), number(0, 255)),
    **dict.fromkeys(("contrast", "saturation"), number(0, 16)),
    **dict.fromkeys(("crop_scale", "crop_ratio", "blur_sigma"), each(number(0, 1000), least=2, most=2)),
    "jitter": each(number(0, 16), least=4, most=4),
    **dict.fromkeys(("key_frame_probs", "colour_key_frame_probs"), each(SHARE)),
    "num_patches": whole(1, 1000),
    "scales": each(whole(1, 4096)),
    "ratios": each(number(0, 1000, above=True)),
    **dict.fromkeys(("scale_jitter", "loc_velocity", "size_velocity"), number(0, 4096)),
    **{f"{name}_prob": SHARE for name in ("flip", "brightness", "contrast", "hue", "blur", "grey", "jitter", "paste")},
}


def check_ranges(settings: Mapping[str, Any]) -> None:
    """Reject settings of another type or out of range.

    Args:
        settings: nested, with references resolved.

    Raises:
        ValueError: naming the first of them.
    """
    for path, value, kind in _found(settings):
        if not kind.fits(value):
            text = "".join(letter if letter.isprintable() else "?" for letter in str(value))
            shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} ..."
            is_huge = (
                type(value) in (int, float) and value > MOST and "at most" not in kind.words and "number" in kind.words
            )
            most = f" and at most {MOST:,}" if is_huge else ""
            raise ValueError(f"{path}={shown} must be {kind.words}{most}.")


def _found(settings: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any, Kind]]:
    """Dotted names of settings that are in the table, with their values and kinds."""
    for name, value in settings.items():
        own = (*path, str(name))
        kind = kind_of(own)
        if kind is not None and not (own[:2] == MEASURED and value == "auto"):
            yield ".".join(own), value, kind
        if isinstance(value, dict) and kind is not ANY:
            target = value.get("_target_", OURS[0])
            is_foreign = CLASS.fits(target) and not target.startswith(OURS)
            yield from _found({"_target_": target} if is_foreign else value, own)


def kind_of(path: Sequence[str]) -> Kind | None:
    """Kind of the setting with this path; None if the table lacks it."""
    for start in range(len(path)):
        for end in (".".join(path[start:]), ".".join((*path[start:-1], "*"))):
            if end in KINDS and end != "*":
                return KINDS[end]
    return None

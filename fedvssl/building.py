"""From a section of the configuration to an object.

There is no registry: the dotted `_target_` in a YAML file names the class. It comes from the user's own configuration,
so it is trusted like the user's own code; nothing that was downloaded is ever instantiated.
"""

import inspect
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

import hydra.utils
from hydra.errors import InstantiationException

from fedvssl.config import Config, quoted, refuse_renamed
from fedvssl.files.arrays import arrays_digest
from fedvssl.strategy.patterns import fits

if TYPE_CHECKING:  # torch is imported when something is built
    from fedvssl.client.training import LocalTraining

LACKS = re.compile(r"(\w+)(?:\.__init__)?\(\) missing \d+ required [\w -]*arguments?: ('[\w', ]+)")
WORDS = re.compile(r"\b(?!and\b)\w+")
TAKES_NOT = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # ends of the names of BatchNorm's


def build(config: Mapping[str, Any], **kwargs: Any) -> Any:
    """Instantiate `config["_target_"]` with the other entries; `kwargs` may hold live objects such as a backbone.

    Raises:
        ValueError: if the dotted name does not exist or does not take these entries.
    """
    try:
        return hydra.utils.instantiate({**config, "_partial_": True, "_convert_": "all"})(**kwargs)
    except (InstantiationException, TypeError) as error:
        if isinstance(error.__cause__, ValueError):  # a part that it is built of refuses its settings
            raise ValueError(str(error.__cause__)) from error
        refuse_renamed(quoted(error))
        why = (
            "there is no such class."
            if "Error locating target" in str(error)
            else unfit(str(config["_target_"]), list(config)) or _arguments(str(error))
        )
        told = str(error.__cause__ or error) if isinstance(error, InstantiationException) else str(error)
        raise ValueError(f"{config['_target_']} cannot be built: {why or ' '.join(told.split())}") from error


def unfit(target: str, names: Sequence[str]) -> str:
    """Words on those of the entries that a class does not take, "" if it takes them all, or anything."""
    known = _parameters_of(target)
    foreign = [name for name in names if known and name not in known and name != "_target_"]
    if not foreign:
        return ""
    return (
        f"it takes no {', '.join(foreign)}: leave that out. Where an experiment sets it, it is one for other classes: "
        "leave out experiment=, or choose the task, the model and the strategy that it is made for."
    )


def _arguments(text: str) -> str:
    """Words on arguments that a class lacks or does not take, which may be a part of the one that is built."""
    if found := LACKS.search(text):
        return f"{found[1]} needs {', '.join(WORDS.findall(found[2]))}: give it a value."
    if found := TAKES_NOT.search(text):
        return f"{found[1]} takes no {found[2]}: leave that out."
    return ""


def build_task(config: Config) -> Any:
    """Build the task `config["task"]["module"]` around the backbone `config["model"]`, with initial weights.

    Raises:
        ValueError: if the model does not take what `task.backbone` sets, or one of both cannot be built.
    """
    model = {**config["model"], **(config["task"].get("backbone") or {})}
    known = _parameters_of(str(model.get("_target_")))
    for name in model.keys() - config["model"].keys() - known if known else ():
        raise ValueError(
            f"task.backbone sets {name}, which {model['_target_']} does not take: this task is for another kind of "
            "model. Choose one for it, such as model=r3d18 for clips, or a task for this model, such as task=simclr "
            "for pictures."
        )
    task = build(config["task"]["module"], backbone=build(model))
    if frozen := config["task"].get("frozen"):
        freeze(task, frozen)
    return task


def freeze(task: Any, patterns: Sequence[str]) -> None:
    """Take parameters of a task out of training, by patterns of the names of its state entries, as `fits` reads them.

    Raises:
        ValueError: if a pattern fits no entry, or statistics of BatchNorm, which training would change nevertheless.
    """
    names = list(task.state_dict())
    for pattern in patterns:
        if not pattern.startswith("!") and not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"task.frozen: no array of the task is called '{pattern}'; there is {names[0]}.")
    if counted := [name for name in sorted(frozen_names(names, patterns)) if name.endswith(STATISTICS)]:
        raise ValueError(f"task.frozen asks for {counted[0]}, which every step changes: leave BatchNorm out of it.")
    for name, parameter in task.named_parameters():
        if fits(name, patterns):
            parameter.requires_grad_(False)


def frozen_names(names: Iterable[str], patterns: Sequence[str]) -> frozenset[str]:
    """Names of the state entries that no training changes."""
    return frozenset(name for name in names if fits(name, patterns))


def build_optimizer(training: Mapping[str, Any], module: Any, *, on_gpu: bool) -> Any:
    """Build the optimizer `training["optimizer"]` of a module, with one kernel for all weights on a GPU.

    Raises:
        ValueError: if its class is unknown, does not take the settings, or no parameter has a name that they ask for.
    """
    from fedvssl.training.optimizer import check_optimizer, parameter_groups

    settings = dict(training["optimizer"])
    patterns, decay = settings.pop("param_groups") or {}, settings.pop("decay_norm_and_bias")
    if not (isinstance(patterns, dict) and all(isinstance(values, dict) for values in patterns.values())):
        raise ValueError(
            f"training.optimizer.param_groups={patterns} must be settings by pattern, such as {{head.*: {{lr: 0.1}}}}."
        )
    groups = parameter_groups(module, patterns, decay_norm_and_bias=decay)
    known = _parameters_of(settings["_target_"])
    for name in settings.keys() - {"_target_"} - known if known else ():
        raise ValueError(
            f"{settings['_target_']} takes no {name}: start from another file of conf/optimizer, such as "
            f"optimizer=adamw, or write ~training.optimizer.{name} training.{name}=null."
        )
    optimizer = build(settings, params=groups, **({"fused": True} if on_gpu and "fused" in known else {}))
    check_optimizer(optimizer)
    return optimizer


def _parameters_of(target: str) -> set[str]:
    """Names of the parameters of a class or function; empty if it does not exist or takes anything."""
    try:
        parameters = inspect.signature(hydra.utils.get_object(target)).parameters
    except (ImportError, ValueError, TypeError, AttributeError):
        return set()  # `build` tells what is wrong with it
    return set() if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else {*parameters}


def build_sample(config: Config) -> Any:
    """Build the pretext task's Sample, which a worker applies to one video."""
    return build(config["task"]["sample"])


def build_stepping(settings: str) -> Any:
    """Build what answers the messages of a round of many steps, see split/stepping.py.

    Args:
        settings: as for `build_training`.

    Raises:
        ValueError: if the rule has no such half.
    """
    from fedvssl.training.loop import seed_torch

    config = json.loads(settings)
    seed_torch((config["seed"],))
    task, rule, training = build_task(config), build(config["rule"]), config["training"]
    if not hasattr(rule, "stepping"):
        raise ValueError(f"{type(rule).__name__} answers no message of a step.")
    return rule.stepping(task, build_sample(config), partial(build_optimizer, training), training, config["seed"])


def build_training(settings: str, sent: Collection[str]) -> "LocalTraining":
    """Build what a client trains, with initial weights from the seed.

    Args:
        settings: "model", "task", "training", "rule" and "seed" of the server's configuration, as JSON text.
        sent: names of the arrays that travel.
    """
    from fedvssl.client.training import LocalTraining
    from fedvssl.files.tensors import to_arrays
    from fedvssl.training.loop import seed_torch

    config = json.loads(settings)
    seed_torch((config["seed"],))
    task, rule = build_task(config), build(config["rule"])
    state = to_arrays(task)
    frozen = frozen_names(state, config["task"].get("frozen") or ()) - {*sent}
    check_base({name: state[name] for name in frozen}, expected=config.get("base"))
    return LocalTraining(
        task,
        build_sample(config),
        build_optimizer=partial(build_optimizer, config["training"]),
        rule=rule,
        settings=config["training"],
        seed=config["seed"],
        initial={name: array.copy() for name, array in state.items() if name not in sent},
        keeps=bool(rule.keep({}, state, state, sent).keys() - frozen) or config["training"]["keep_optimizer"],
        frozen=frozen,
    )


def check_base(arrays: Mapping[str, Any], *, expected: str | None) -> None:
    """Compare the frozen arrays of a client with those of the server.

    Args:
        arrays: of the client, those that do not travel.
        expected: digest of the server's; None if it has none.

    Raises:
        ValueError: naming both digests.
    """
    own = arrays_digest(arrays) if arrays else None
    if own != expected:
        raise ValueError(
            f"the frozen arrays of this client have the digest {own}, those of the server {expected}: give both the "
            "same weights (model.weights) and the same release of the program."
        )

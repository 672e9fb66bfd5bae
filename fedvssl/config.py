"""Configuration: where the YAML files are, how a command line becomes a plain dict, how `_target_` becomes an object.

There is no registry: the dotted `_target_` in a YAML file is the registry. The dotted name is whatever the user's own
configuration says, so it is trusted as much as the user's own code; nothing that was downloaded is ever instantiated.
"""

import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import hydra.utils
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, InstantiationException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

Config = dict[str, Any]
# Values of flags that mean the same to Hydra as to a shell: words, numbers, true and false, lists, quoted text.
PLAIN_VALUE = re.compile(r"[\w./+-]*|\[.*]|(['\"]).*\1", re.ASCII)


def conf_dir() -> Path:
    """Folder of the YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def read_command_line(command: str, argv: Sequence[str] | None = None) -> Config:
    """The configuration that `python -m fedvssl.<command> <config> [key=value ...]` asks for.

    Args:
        command: name of the command and of its configuration in `conf/`.
        argv: the words after the module's name, by default those of this process.

    Raises:
        ValueError: for a mistake, and for a configuration that lacks a key of `conf/<command>.yaml`.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if not words:
        raise ValueError(f"Name a configuration: python -m fedvssl.{command} {command} [key=value ...].")
    config = compose(words[0], parse_overrides(words[1:]))
    if missing := next(_missing_keys(config, compose(command, [])), None):
        raise ValueError(
            f"Configuration '{words[0]}' has no '{missing}', which fedvssl.{command} needs: "
            f"give '{command}', or a file that builds on it."
        )
    return config


def parse_overrides(argv: Sequence[str]) -> list[str]:
    """Published flags as Hydra overrides: `--work_dir=x` -> `work_dir=x`, a bare `--progress` -> `progress=true`.

    The value of a flag is what a shell would make of it: `~` is the home folder, brackets, commas and spaces belong to
    the name of a file. A word without dashes is left to Hydra.

    Raises:
        ValueError: for a word that is neither `key=value` nor a flag.
    """
    overrides = []
    for word in argv:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            if not equals:
                raise ValueError(f"'{word}' is not an override: write key=value, for example data_dir=/path/to/data.")
            overrides.append(word)
        else:
            overrides.append(f"{key}={_flag_value(value) if equals else 'true'}")
    return overrides


def _flag_value(value: str) -> str:
    value = os.path.expanduser(value)
    return value if PLAIN_VALUE.fullmatch(value) else QuotedString(value, Quote.single).with_quotes()


def compose(config: str, overrides: Sequence[str]) -> Config:
    """Read one configuration with its defaults list.

    Args:
        config: path of a YAML file, or `<name>`, `<name>.yaml` or `conf/<name>.yaml` for one of ours.
        overrides: Hydra overrides, `key=value`.

    Raises:
        ValueError: if the file does not exist, is no YAML, or an override names an unknown key.
    """
    path = Path(config)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        is_ours = path.parent in (Path(), Path("conf"))  # `conf/test.yaml` is what people type, in any folder
        path = conf_dir() / f"{path.name.removesuffix('.yaml')}.yaml"
        if not (is_ours and path.is_file()):
            names = ", ".join(sorted(p.stem for p in conf_dir().glob("*.yaml")))
            raise ValueError(f"No configuration '{config}': give the path of a YAML file or one of: {names}.")
    search_path = [] if path.resolve().parent == conf_dir() else [f"hydra.searchpath=[file://{conf_dir()}]"]
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(config_dir=str(path.resolve().parent), version_base="1.3"):
            composed = hydra_compose(config_name=path.stem, overrides=[*search_path, *overrides])
        return to_dict(composed)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ValueError(f"Configuration '{config}': {' '.join(str(error).split())}") from error


def check_numbers(config: Config, least: Mapping[str, int | float], *, or_auto: Collection[str] = ()) -> None:
    """Refuse what is not a number, or is too small.

    Args:
        config: nested settings.
        least: the smallest allowed value of each dotted key; an int asks for a whole number.
        or_auto: keys that may be "auto" instead.

    Raises:
        ValueError: naming the first key that is wrong.
    """
    for key, minimum in least.items():
        value: Any = reduce(getitem, key.split("."), config)
        if key in or_auto and value == "auto":
            continue
        whole = isinstance(minimum, int)
        is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not (is_number and value >= minimum):
            kind = ("auto or " if key in or_auto else "") + ("a whole number" if whole else "a number")
            raise ValueError(f"{key}={value} must be {kind}, at least {minimum:g}.")


def to_dict(config: Any) -> Config:
    """Resolved plain dict of a Hydra configuration."""
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    return resolved  # pyright: ignore[reportReturnType]


def _missing_keys(config: Config, reference: Config, prefix: str = "") -> Iterator[str]:
    """Dotted keys of `reference` that `config` lacks. What has a `_target_` decides itself which keys it needs."""
    for name, value in reference.items():
        if name not in config:
            yield prefix + name
        elif isinstance(value, dict) and "_target_" not in value:
            own = config[name] if isinstance(config[name], dict) else {}
            yield from _missing_keys(own, value, f"{prefix}{name}.")


def build(config: Config, **kwargs: Any) -> Any:
    """Instantiate `config["_target_"]` with the other entries; `kwargs` may hold live objects such as a backbone.

    Raises:
        ValueError: if the dotted name does not exist or does not take these entries.
    """
    try:
        return hydra.utils.instantiate({**config, "_partial_": True, "_convert_": "all"})(**kwargs)
    except (InstantiationException, TypeError) as error:
        raise ValueError(f"{config['_target_']} cannot be built: {' '.join(str(error).split())}") from error


def build_task(config: Config) -> Any:
    """The pretext task `config["pretext"]["task"]` around the backbone `config["model"]`, freshly initialised."""
    backbone = build({**config["model"], **config["pretext"]["backbone"]})
    return build(config["pretext"]["task"], backbone=backbone)


def build_sample(config: Config) -> Any:
    """What a worker does with one video for this pretext task."""
    return build(config["pretext"]["sample"])

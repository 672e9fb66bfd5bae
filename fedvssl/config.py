"""Configuration: where the YAML files are, how a command line becomes a plain dict, how `_target_` becomes an object.

There is no registry: the dotted `_target_` in a YAML file is the registry. The dotted name is whatever the user's own
configuration says, so it is trusted as much as the user's own code; nothing that was downloaded is ever instantiated.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra.utils
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

Config = dict[str, Any]


def conf_dir() -> Path:
    """Folder of the YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def parse_overrides(argv: Sequence[str]) -> list[str]:
    """Published flags as Hydra overrides: `--work_dir=x` -> `work_dir=x`, a bare `--progress` -> `progress=true`.

    Raises:
        ValueError: for a word that is neither `key=value` nor a flag.
    """
    overrides = []
    for word in argv:
        override = word.removeprefix("--")
        if "=" not in override:
            if not word.startswith("--"):
                raise ValueError(f"'{word}' is not an override: write key=value, for example data_dir=/path/to/data.")
            override += "=true"
        overrides.append(override)
    return overrides


def compose(config: str, overrides: Sequence[str]) -> Config:
    """Read one configuration with its defaults list.

    Args:
        config: path of a YAML file, or the name of one in `conf/` with or without its ending.
        overrides: Hydra overrides, `key=value`.

    Raises:
        ValueError: if the file does not exist or an override names an unknown key.
    """
    path = Path(config)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        path = conf_dir() / f"{path.stem}.yaml"
        if not path.is_file():
            names = ", ".join(sorted(p.stem for p in conf_dir().glob("*.yaml")))
            raise ValueError(f"No configuration '{config}': give the path of a YAML file or one of: {names}.")
    search_path = [] if path.resolve().parent == conf_dir() else [f"hydra.searchpath=[file://{conf_dir()}]"]
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(config_dir=str(path.resolve().parent), version_base="1.3"):
            composed = hydra_compose(config_name=path.stem, overrides=[*search_path, *overrides])
        return to_dict(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(f"Configuration '{config}': {' '.join(str(error).split())}") from error


def to_dict(config: Any) -> Config:
    """Resolved plain dict of a Hydra configuration."""
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    return resolved  # pyright: ignore[reportReturnType]


def build(config: Config, **kwargs: Any) -> Any:
    """Instantiate `config["_target_"]` with the other entries; `kwargs` may hold live objects such as a backbone."""
    return hydra.utils.instantiate({**config, "_partial_": True, "_convert_": "all"})(**kwargs)


def build_task(config: Config) -> Any:
    """The pretext task `config["pretext"]["task"]` around the backbone `config["model"]`, freshly initialised."""
    backbone = build({**config["model"], **config["pretext"]["backbone"]})
    return build(config["pretext"]["task"], backbone=backbone)


def build_sample(config: Config) -> Any:
    """What a worker does with one video for this pretext task."""
    return build(config["pretext"]["sample"])

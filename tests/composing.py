"""Composing in tests: every choice of files once a process, since Hydra takes a quarter of a second for one.

Hydra reads and merges the chosen files, then sets the other words one by one. Only the first is slow, and most tests
differ in the second alone. The commands that tests start compose as users' do.
"""

import pickle
import re
from functools import cache
from typing import Any
from unittest.mock import patch

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from fedvssl.places import conf_dir

PLAIN = re.compile(r"([A-Za-z]\w*(\.\w+)*)=", re.ASCII)  # neither +key nor ~key nor key@package


def compose(config_name: str, overrides: list[str]) -> Any:
    """`hydra.compose`, which itself gets all but plain settings of our own files, mistakes among them."""
    try:
        return _compose_plain(config_name, overrides)
    except Exception:
        return hydra.compose(config_name=config_name, overrides=overrides)


def _compose_plain(config_name: str, overrides: list[str]) -> Any:
    main = GlobalHydra.instance().config_loader().get_search_path().get_path()[1].path
    keys = [found[1] for found in map(PLAIN.match, overrides) if found and not found[1].startswith("hydra")]
    if main != str(conf_dir()) or len(keys) < len(overrides):
        raise ValueError(f"{overrides} of {main} is not plain.")
    is_choice = [(conf_dir() / key).is_dir() for key in keys]
    choices = tuple(word for word, chosen in zip(overrides, is_choice, strict=True) if chosen)
    settings = [word for word, chosen in zip(overrides, is_choice, strict=True) if not chosen]
    composed = pickle.loads(_composed(config_name, choices))
    for setting in OverridesParser.create().parse_overrides(settings):
        if setting.is_sweep_override():
            raise ValueError(f"{setting.input_line} is for several runs.")
        OmegaConf.update(composed, setting.key_or_group, setting.value(), merge=True)
    return composed


@cache
def _composed(config_name: str, choices: tuple[str, ...]) -> bytes:
    with patch.object(yaml, "SafeLoader", getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # five times as fast
        return pickle.dumps(hydra.compose(config_name=config_name, overrides=list(choices)))

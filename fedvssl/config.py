"""Configuration: from YAML files and a command line to a plain dict."""

import copy
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fedvssl.chosen_run import with_run
from fedvssl.files.atomic import atomic_path
from fedvssl.files.names import check_name
from fedvssl.files.settings import flat
from fedvssl.mistakes import NO_NAME, explain, printable, refuse_unused
from fedvssl.overrides import SEARCH_PATH, is_flag, is_setting, parse_overrides, with_search_path
from fedvssl.places import conf_dir
from fedvssl.ranges import check_ranges

Config = dict[str, Any]
# Hydra does not compose base.yaml alone with these, or nothing.
OTHER_CONFIGURATION = ("-h", "--help", "--hydra-help", "--version", "--config-", "-cn", "-cp")
# Key of a command's configuration -> its section in the experiments that are folders; of all others: evaluation.
SECTIONS = {"rows": "sweep", "rounds": "pretraining", "train_sample": "finetuning", "formats": "export"}
EXPERIMENTS_NOW = {"quickstart": "small", "finetune_quickstart": "small", "sweep_small": "small_clips"}
OF_CLIPS = {"clip_len", "frame_stride"}  # settings that a configuration of pictures lacks; other settings refer to them
FOREIGN = (HydraException, OmegaConfBaseException, YAMLError)  # some of these are ValueErrors
IN_PATHS = ("exp_name", "data.name", "data.split", "eval.split")  # settings that become parts of names of files
# Keys and class paths of earlier versions -> their names now.
RENAMED = {
    "pretext.task": "task.module",
    "pretext": "task",
    "data.video_dir": "data.media_dir",
    "eval.video_dir": "eval.media_dir",
    "fedvssl.pretext": "fedvssl.tasks",
    "fedvssl.training.recognition": "fedvssl.tasks.recognition",
}


def read_command_line(command: str, argv: Sequence[str] | None = None) -> Config:
    """Read the configuration of `python -m fedvssl.<command> <config> [key=value ...]`.

    Args:
        command: name of the command and of its configuration in `conf/`.
        argv: the words after the module's name; None takes the words of this process.

    Raises:
        ValueError: for a mistake, and for a configuration that lacks a key of `conf/<command>.yaml`.
    """
    words = with_run(command, sys.argv[1:] if argv is None else argv)
    if not words:
        raise ValueError(f"Name a configuration: python -m fedvssl.{command} {command} [key=value ...].")
    config = compose(words[0], parse_overrides(words[1:]))
    refuse_clips_of_pictures(config, parse_overrides(words[1:]))
    if isinstance(config.get("data"), dict):  # a configuration of one's own need not build on conf/shared/data.yaml
        config["data"] = {"allow_test_videos": False, "train_list": None, **config["data"]}
    if missing := next(_missing_keys(config, compose(command, [])), None):
        raise ValueError(
            f"Configuration '{words[0]}' has no '{missing}', which fedvssl.{command} needs: "
            f"give '{command}', or a file that builds on it."
        )
    return config


def for_hydra(argv: Sequence[str]) -> list[str]:
    """Command line for Hydra's own entry: its flags and their values unchanged, the rest by `parse_overrides`.

    Raises:
        ValueError: if Hydra cannot compose base.yaml with the settings.
    """
    argv = with_search_path(with_run("main", argv))
    argv = [word if is_flag(word) else choose_section(word, conf_dir() / "base.yaml") for word in argv]
    if {"-m", "--multirun"} & {*argv}:
        raise ValueError("Several runs in one command (-m, --multirun): fedvssl.sweep starts them and compares them.")
    words = [parse_overrides([word])[0] if is_setting(word) else word for word in argv]
    if not any(word.startswith(OTHER_CONFIGURATION) for word in argv):
        settings = [word for word in words if is_setting(word) or word.startswith("~")]
        compose("base", settings, resolve="${hydra:" not in "".join(words))  # only Hydra itself knows its own values
    return words


def compose(config: str, overrides: Sequence[str], *, resolve: bool = True) -> Config:
    """Read one configuration with its defaults list.

    Args:
        config: path of a YAML file, or `<name>`, `<name>.yaml` or `conf/<name>.yaml` for one of ours.
        overrides: Hydra overrides, `key=value`.
        resolve: replace interpolations by their values.

    Raises:
        ValueError: if the file does not exist, is no YAML, or an override names an unknown key.
    """
    with hydra_for(config, overrides) as (name, words):
        composed = hydra_compose(config_name=name, overrides=words)
        refuse_renamed(key for key in RENAMED if OmegaConf.select(composed, key) is not None)
        refuse_unused(composed, words)
        return to_dict(composed, resolve=resolve)


@contextmanager
def hydra_for(config: str, overrides: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Start Hydra for one configuration; yield its name and the overrides for it.

    Args:
        config, overrides: as for `compose`.

    Raises:
        ValueError: if the file does not exist, or Hydra finds a mistake.
    """
    path = find_configuration(config)
    overrides = [choose_section(word, path) for word in overrides]
    folders = [word.removeprefix(SEARCH_PATH).strip("[]") for word in overrides if word.startswith(SEARCH_PATH)]
    overrides = [word for word in overrides if not word.startswith(SEARCH_PATH)]
    folders += [] if path.resolve().parent == conf_dir() else [f"file://{conf_dir()}"]
    search_path = [f"{SEARCH_PATH}[{','.join(folders)}]"] if folders else []
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(config_dir=str(path.resolve().parent), version_base="1.3"):
            yield path.stem, [*search_path, *overrides]
    except Exception as error:
        if isinstance(error, ValueError) and not isinstance(error, FOREIGN) and NO_NAME not in str(error):
            raise
        refuse_renamed(quoted(error))
        known = partial(settings_of, path, [*search_path, *overrides])
        told = printable(explain(error, overrides, keys=known, options=options_of))
        raise ValueError(f"Configuration '{config}': {told}") from error


def settings_of(path: Path, overrides: Sequence[str]) -> list[str]:
    """Names that a word may set: dotted ones of the settings, and the groups.

    Args:
        path: file of the configuration.
        overrides: those that choose files of groups count, if the configuration composes with them.
    """
    groups = [folder.name for folder in conf_dir().iterdir() if folder.is_dir()]
    search_path = [word for word in overrides if word.startswith(SEARCH_PATH)]
    chosen = [word for word in overrides if word.partition("=")[0] in groups]
    with initialize_config_dir(config_dir=str(path.resolve().parent), version_base="1.3"):
        for words in ([*search_path, *chosen], search_path):
            with suppress(Exception):
                composed: Any = OmegaConf.to_container(hydra_compose(path.stem, words), resolve=False)
                sections = [name for name, value in composed.items() if isinstance(value, dict)]
                return [*groups, *sections, *(name for name, _ in flat(composed))]
    return groups


def options_of(group: str) -> list[str]:
    """Names of the files and folders in a folder of conf/; [] if there is no such folder."""
    return [path.stem for path in (conf_dir() / group).glob("*")] if group else []


def find_configuration(config: str) -> Path:
    """Path of a configuration, given as for `compose`.

    Raises:
        ValueError: if the file does not exist.
    """
    path = Path(config)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        is_ours = path.parent in (Path(), Path("conf"))  # `conf/test.yaml` is what people type, in any folder
        path = conf_dir() / f"{path.name.removesuffix('.yaml')}.yaml"
        if not (is_ours and path.is_file()):
            names = ", ".join(sorted(p.stem for p in conf_dir().glob("*.yaml")))
            raise ValueError(f"No configuration '{config}': give the path of a YAML file or one of: {names}.")
    return path


def choose_section(word: str, config: Path) -> str:
    """Choose the section of an experiment that is a folder: `experiment=small` -> `experiment=small/finetuning`.

    Args:
        word: an override; any other is returned as it is.
        config: the command's configuration, or a user's that builds on it; its keys tell which command it is for.

    Raises:
        ValueError: for an experiment of an earlier version.
    """
    key, _, name = word.removeprefix("--").partition("=")
    if key == "experiment" and name in EXPERIMENTS_NOW:
        raise ValueError(f"'experiment={name}' is called 'experiment={EXPERIMENTS_NOW[name]}' now.")
    if key != "experiment" or not name or not (conf_dir() / "experiment" / name).is_dir():
        return word
    known = keys_of(config.absolute())
    section = next((section for key, section in SECTIONS.items() if key in known), "evaluation")
    if section == "export" and not (conf_dir() / f"experiment/{name}/export.yaml").is_file():
        section = "evaluation"  # one that chooses no data, which an export has not
    return f"experiment={name}/{section}"


@cache
def keys_of(path: Path) -> frozenset[str]:
    """Keys of the configuration in a file, by its absolute path, without overrides; composed once for all words."""
    return frozenset(compose(str(path), [], resolve=False))


def refuse_clips_of_pictures(config: Mapping[str, Any], words: Sequence[str]) -> None:
    """Reject an experiment that sets the clips of videos beside input=pictures.

    Raises:
        ValueError: naming the experiment.
    """
    experiment = next((word for word in words if word.startswith("experiment=")), None)
    if experiment and "input=pictures" in words and OF_CLIPS & config.keys():
        raise ValueError(f"{experiment} is one of clips, and input=pictures asks for pictures: leave out one of them.")


def refuse_renamed(names: Iterable[str]) -> None:
    """Reject a key or class path of an earlier version and tell its name now.

    Raises:
        ValueError: naming the first of them.
    """
    for name in names:
        for old, new in RENAMED.items():
            if name == old or name.startswith(f"{old}."):
                raise ValueError(f"'{name}' is called '{new}{name.removeprefix(old)}' now.")


def quoted(error: Exception) -> list[str]:
    """Dotted names in quotes in the message of an error."""
    return re.findall(r"'([\w.]+)'", str(error))


def to_dict(config: Any, *, resolve: bool = True) -> Config:
    """Resolve a Hydra configuration to a plain dict; `data.num_classes=auto` is counted in the data set's lists.

    Raises:
        ValueError: if a setting that becomes part of a path leads outside its folder.
    """
    if resolve and OmegaConf.select(config, "data.num_classes") == "auto" and "annotation_dir" in config.data:
        from fedvssl.data.splits import count_classes

        config = copy.deepcopy(config)
        own_lists = OmegaConf.select(config, "eval.num_classes") == "auto"
        OmegaConf.update(config, "data.num_classes", count_classes(config.data) or "auto")
        if own_lists:  # the server's may be other ones
            OmegaConf.update(config, "eval.num_classes", count_classes(config.eval) or "auto")
    resolved = OmegaConf.to_container(config, resolve=resolve, throw_on_missing=resolve)
    assert isinstance(resolved, dict)
    for key in IN_PATHS:
        section: Any = resolved
        for name in key.split("."):
            section = section.get(name) if isinstance(section, dict) else None
        if isinstance(section, str):
            check_name(section, where=key)
    named: Any = resolved
    if resolve:
        check_ranges(named)
    return named


def save_settings(path: Path, settings: dict[str, Any]) -> None:
    """Write settings as YAML, whole or not at all."""
    with atomic_path(path) as temporary:
        OmegaConf.save(OmegaConf.create(settings), temporary)


def _missing_keys(config: Mapping[str, Any], reference: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of `reference` that `config` lacks. An entry with a `_target_` decides itself which keys it needs."""
    for name, value in reference.items():
        if name not in config and name not in OF_CLIPS:
            yield prefix + name
        elif isinstance(value, dict) and "_target_" not in value:
            own = config[name] if isinstance(config[name], dict) else {}
            yield from _missing_keys(own, value, f"{prefix}{name}.")

"""The dependency direction, read from the import statements, late ones included.

commands -> apps -> client | tasks | evaluation -> training | strategy -> data | wire -> files
"""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fedvssl"
FILES = sorted(PACKAGE.rglob("*.py"))
OURS = [*FILES, *sorted(path for folder in ("data_tools", "scripts") for path in (ROOT / folder).rglob("*.py"))]
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 40
COMMANDS = {
    *("main", "finetune", "test", "finetune_preprocess", "evaluate", "retrieval", "linear_probe", "knn"),
    "semi",
    *("motion_probe", "report", "export", "sweep", "runs", "verdict", "attack", "submit", "node"),
}
# Parts of the package -> parts or files of it that they may import. A command may import all that is no leaf.
ALLOWED = {
    "files": {"files"},
    "models": {"models"},
    "data": {"data", "files"},
    "wire": {"wire", "files"},
    "strategy": {"strategy", "wire", "files/arrays", "files/names", "files/round_records"},
    "training": {"training", "data", "files"},
    "tasks": {"tasks", "training", "data"},
    "evaluation": {"evaluation", "training", "data", "files"},
    "client": {"client", "training", "data", "wire", "files", "strategy/rule"},
    # The one kind of learning whose server needs torch.
    "split": {"split", "client", "strategy", "wire", "training", "data", "files", "building"},
    "formats": {"formats", "data", "files", "evaluation/intervals", "strategy/rounds", "sweeping/comparison"},
    "sweeping": {"sweeping", "training", "data", "files", "building", "config", "overrides", "evaluation/intervals"},
    "reporting": {
        *("reporting", "sweeping", "files", "evaluation/intervals", "training/watch"),
        *("data/validation", "data/seen", "run_words", "strategy/rounds"),
    },
    "api": {"building", "config", "data", "evaluation", "files", "training"},
    "cli": {"completion", "early", "files/ending"},
    "__main__": {"cli"},
    "completion": {"config", "help", "files/runs"},
    "overrides": set(),
    "ranges": set(),
    "mistakes": {"files/settings", "places", "ranges"},
    "places": set(),
    "early": {
        *("chosen_run", "config", "help", "overrides", "files/ending", "files/given"),
        *("data/annotations", "data/split"),
    },
    "conversion": {"building", "config", "data/seen", "files", "overrides"},
    "run_words": {"files/run_log", "files/settings", "places"},
    "chosen_run": {"files/runs", "files/rounds", "files/run_log", "run_words"},
    "config": {
        *("chosen_run", "mistakes", "overrides", "places", "ranges"),
        *("data/splits", "files/names", "files/settings", "files/atomic"),
    },
    "help": {"chosen_run", "config", "overrides", "files/ending"},
    "building": {"config", "client/training", "training/optimizer", "training/loop", "files", "strategy/patterns"},
    "preflight": {"building", "config", "training", "data", "files", "strategy/rounds", "wire/replies"},
    "identity": {"config", "strategy", "data", "files"},
    "cluster": {"files"},
    "finetune_epochs": {"evaluation", "training", "data", "files", "building"},
    "client_app": {"client", "wire", "building"},
    "server_evaluation": {"evaluation", "training", "data/split", "files", "building", "config"},
    "server_rounds": {"server_evaluation", "training", "strategy", "wire", "files"},
    "server_run": {"server_rounds", "server_evaluation", "training", "strategy", "wire", "files", "building", "config"},
    "server_app": {"server_rounds", "wire"},
    "apps": {"client", "client_app", "served_run", "submission", "wire"},
    "submission": {"config", "overrides", "files"},
    "served_run": {
        *("building", "config", "identity", "preflight", "server_app", "server_rounds", "server_run", "submission"),
        *("data", "files", "training", "wire"),
    },
    "overlaps": {"data", "evaluation/features", "evaluation/intervals", "files", "training/loop"},
    "rehearsal": {"building", "client", "config", "data", "files", "preflight", "server_run"},
    "trained_run": {"building", "config", "files", "server_run"},
    "held_out": {"building", "data", "evaluation", "files", "server_evaluation", "trained_run", "training/watch"},
    "engines": {
        "cluster",
        "client_app",
        "server_app",
        "server_rounds",
        "preflight",
        "client",
        "wire",
        "files",
        "building",
        "config",
    },
}
# Contracts -> parts that may know them whatever the direction.
CONTRACTS = {"tasks/task": {"data", "training", "evaluation"}}
# Commands that import another command.
BUILT_ON = {
    **dict.fromkeys(("retrieval", "knn", "linear_probe", "motion_probe", "semi"), "evaluate"),
    "sweep": "finetune main",
}
# Leaves: what one may add without touching any other file. They are reached through `_target_` only.
LEAVES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix()
    for folder in ("tasks", "strategy", "models", "split", "evaluation")
    for path in (PACKAGE / folder).glob("[!_]*.py")
} - {
    "tasks/task",
    *(f"strategy/{name}" for name in ("average", "intake", "bounds", "fedavg", "rounds", "rule", "patterns")),
    *(f"evaluation/{name}" for name in ("features", "protocol", "prediction", "monitor", "collapse", "curves")),
    *(f"evaluation/{name}" for name in ("intervals", "calibration", "pixels", "rows")),
}
# Rules that data_tools.partition names; nothing in the package knows them.
LEAVES |= {"data/partition_balanced", "data/labelled"}
LEAVES |= {"data/image_augment"}  # a medium that the dataset knows nothing of
# Further files of leaves -> the leaves that may import them.
PARTS_OF_LEAVES = {
    **{"tasks/patches": {"tasks/ctp"}, "tasks/boxes": {"tasks/ctp"}},
    "models/layout": {"models/resnet", "models/split_resnet"},
    "tasks/heads": {
        *("tasks/follower", "tasks/simclr", "tasks/byol", "tasks/simsiam", "tasks/moco", "tasks/split_moco"),
        *("tasks/clips", "tasks/vcop", "tasks/speed", "tasks/rot3d", "tasks/memdpc"),
    },
    "tasks/clips": {"tasks/vcop", "tasks/speed", "tasks/rot3d", "tasks/memdpc"},
    "tasks/follower": {"tasks/byol", "tasks/moco"},
    "tasks/moco": {"tasks/split_moco"},
    "data/image_augment": {"tasks/views", "split/inversion"},
    "tasks/recognition": {"tasks/picture_recognition"},
    "tasks/embeddings": {"tasks/segment"},
    "strategy/divergence": {"strategy/fedu", "strategy/fedema"},
    **{
        place: {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in (PACKAGE / "split").glob("[!_]*.py")}
        for place in (f"split/{path.stem}" for path in (PACKAGE / "split").glob("[!_]*.py"))
    },
}
# Libraries -> parts or files that may import them. Other libraries are free.
ONLY_IN = {
    "hydra": {*COMMANDS, "building", "completion", "config", "help", "overrides"},
    "omegaconf": {*COMMANDS, "config", "help", "mistakes"},
    "flwr": {
        "apps",
        "engines",
        "server_app",
        "client_app",
        "served_run",
        "wire/grid",
        "wire/record",
        "strategy/flower",
    },
    "av": {"data/container"},
    "mmcv": {"data"},
    "cv2": {"data"},
    "onnxruntime": {"formats/onnx_file"},
    "ray": {"engines", "cluster"},
    "transformers": {"models/sam"},
    "peft": {"models/sam"},
    "data_tools": set(),
    "benchmarks": set(),
    "tests": set(),
}
# Modules -> functions in them that may take the configuration. A command has one: its door, which makes objects of it;
# preflight, identity and server_run are parts of the door of fedvssl.main. The last line is about configurations
# themselves, or config.yaml of a finished run.
DOORS = {
    **dict.fromkeys(("attack", "evaluate", "export", "finetune", "main", "server_evaluation", "sweep"), 1),
    **{"early": 1, "preflight": 3, "identity": 1, "server_run": 2, "served_run": 2, "building": 3},
    **{"test": 2, "rehearsal": 1, "engines": 1},
    **{"config": 4, "files/settings": 2, "formats/origin": 3, "reporting/folders": 1},
}
HEAVY = {"torch", "torchvision", "lightning"}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> set[str]:
    """Dotted names of modules, and of what is taken out of them."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: absolute imports only"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def takes_configuration(function: ast.FunctionDef) -> bool:
    """True if a parameter is annotated `Config`, or is called `config` and is no path."""
    own = function.args
    return any(
        "Config" in words or (argument.arg == "config" and words != {"str"})
        for argument in (*own.posonlyargs, *own.args, *own.kwonlyargs)
        for words in [{node.id for node in ast.walk(argument) if isinstance(node, ast.Name)}]
    )


def place(path: Path) -> str:
    """fedvssl/data/video.py -> data/video"""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


PLACES = {place(path) for path in FILES}


def own_imports(path: Path) -> set[str]:
    """Files of the package that a file imports, as places."""
    found = {name.removeprefix("fedvssl.").replace(".", "/") for name in imports(path) if name.startswith("fedvssl.")}
    return found & PLACES


def is_core(place: str) -> bool:
    """True if a new method must not change this file."""
    return place not in LEAVES and not place.endswith("__init__")


def may_import(own: str, other: str) -> bool:
    """True if a file lies above another; a command, which no table limits, above all but other commands."""
    allowed = ALLOWED.get(own.split("/")[0])
    if allowed is None:
        return other not in COMMANDS or other in BUILT_ON.get(own, "")
    return own.split("/")[0] in CONTRACTS.get(other, ()) or other.split("/")[0] in allowed or other in allowed


# Each of these goes over all files in one test: with one for each file, pytest would work longer than they do.
def test_parts_import_only_what_lies_below_them() -> None:
    pairs = [(place(path), other) for path in FILES for other in own_imports(path)]
    assert [f"{own} imports {other}" for own, other in pairs if not may_import(own, other)] == []


def test_leaves_are_reached_through_targets_only() -> None:
    readable = {place(path) for path in FILES if "import_module" not in path.read_text(encoding="utf-8")}
    # A table of commands, which tests/test_cli.py compares with the one above.
    assert PLACES - readable == {"cli"}, "imports by a name that this test cannot read"
    pairs = [(place(path), other) for path in FILES for other in own_imports(path) & LEAVES]
    wrong = [f"{own} imports the leaf {other}" for own, other in pairs if own not in PARTS_OF_LEAVES.get(other, ())]
    assert wrong == [], "name it in a YAML file"


def test_the_table_knows_every_part() -> None:
    assert {place.split("/")[0] for place in PLACES} == ALLOWED.keys() | COMMANDS | {"__init__"}
    assert {"tasks/ctp", "tasks/recognition", "models/r3d", "strategy/fedvssl", "evaluation/knn"} <= LEAVES <= PLACES
    assert is_core("strategy/fedavg") and is_core("finetune") and not is_core("models/recognizer")


def test_libraries_are_used_where_they_belong() -> None:
    wrong = []
    for path in FILES:
        may = {place(path), place(path).split("/")[0]}
        wrong += [f"{place(path)} imports {name}" for name in imports(path) if not may & ONLY_IN.get(top_of(name), may)]
    assert wrong == []


def top_of(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize(
    "start",
    [
        "strategy/fedvssl",
        "strategy/intake",
        "wire/grid",
        "report",
        "files/arrays",
        "cli",
        "runs",
        "early",
        "apps",
        "submit",
    ],
)
def test_these_need_no_torch(start: str) -> None:
    """Neither they nor what they import, but inside functions."""
    waiting, seen = [start], set()
    while waiting:
        own = waiting.pop()
        seen.add(own)
        tree = tree_of(PACKAGE / f"{own}.py")
        top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                top |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        assert not {name.split(".")[0] for name in top} & HEAVY, f"{start} needs torch by way of {own}"
        names = {name.removeprefix("fedvssl.").replace(".", "/") for name in top if name.startswith("fedvssl.")}
        waiting += sorted((names & PLACES) - seen)


def test_the_configuration_becomes_objects_at_the_door() -> None:
    wrong = []
    for path in FILES:
        functions = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)]
        found = [function.name for function in functions if takes_configuration(function)]
        if len(found) > (most := DOORS.get(place(path), 0)):
            wrong.append(f"{place(path)} has {most} doors, but these take a configuration: {', '.join(found)}")
    assert wrong == []


def test_files_are_short() -> None:
    """As CONTRIBUTING.md promises: up to 300 lines."""
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in OURS}
    assert [path for path, number in lines.items() if number > MOST_LINES] == []


def test_functions_are_short() -> None:
    """As CONTRIBUTING.md promises: up to 40 lines without their docstrings."""
    nodes = [(path, node) for path in OURS for node in ast.walk(tree_of(path))]
    functions = [(path, node) for path, node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [f"{path}: {node.name}" for path, node in functions if lines_of(node) > MOST_LINES_OF_A_FUNCTION] == []


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    docs = function.body[: ast.get_docstring(function) is not None]
    own, text_alone = (sum((n.end_lineno or 0) - n.lineno + 1 for n in nodes) for nodes in ([function], docs))
    return own - text_alone


def test_no_import_cycles() -> None:
    graph = {place(path): own_imports(path) - {place(path)} for path in FILES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())

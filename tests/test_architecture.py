"""The dependency direction of CONTRIBUTING.md, read from the import statements, late ones included."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "fedvssl").rglob("*.py"))
COMMANDS = {
    *("main", "finetune", "test", "finetune_preprocess"),
    *("evaluate", "retrieval", "linear_probe", "knn", "report", "export"),
}
# What each part of the package may import from the package.
ALLOWED = {
    "models": set(),
    "strategy": {"strategy"},
    "data": {"data"},
    "pretext": {"pretext", "data"},
    "training": {"training", "data", "models"},
    "evaluation": {"evaluation", "training", "data", "models"},
    "exchange": {"exchange", "training", "data"},
    "report": {"reporting", "data"},
    "reporting": {"reporting", "training"},
    "config": set(),
    "preflight": {"data", "config", "training"},
    "server_app": {"evaluation", "strategy", "training", "data", "pretext", "models", "config"},
    "client_app": {"strategy", "training", "data", "pretext", "models", "config"},
}
# Which parts may import a library at all. Other libraries are free.
ONLY_IN = {
    "hydra": {*COMMANDS, "config", "server_app", "client_app"},
    "omegaconf": {*COMMANDS, "config", "server_app", "client_app"},
    "flwr": {"main", "server_app", "client_app", "strategy"},
    "av": {"data/video"},
    "mmcv": {"data"},
    "cv2": {"data"},
    "onnxruntime": {"exchange/onnx_file"},
    "ray": set(),
    "data_tools": set(),
    "benchmarks": set(),
    "tests": set(),
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: absolute imports only"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "fedvssl").with_suffix("").parts[0]


def test_parts_import_only_what_lies_below_them() -> None:
    for path in FILES:
        allowed = ALLOWED.get(part_of(path))
        for name in imports(path):
            package, _, rest = name.partition(".")
            if package == "fedvssl" and rest and allowed is not None:
                assert rest.split(".")[0] in allowed | {"__version__"}, f"{path} imports {name}"


def test_libraries_are_used_where_they_belong() -> None:
    for path in FILES:
        inside = path.relative_to(ROOT / "fedvssl").with_suffix("").as_posix()
        for name in imports(path):
            places = ONLY_IN.get(name.split(".")[0])
            if places is not None:
                assert inside in places or part_of(path) in places, f"{path} imports {name}"


def test_strategies_need_neither_torch_nor_configuration() -> None:
    for path in (ROOT / "fedvssl" / "strategy").glob("*.py"):
        heavy = {"torch", "lightning", "hydra", "omegaconf"}
        assert not {name.split(".")[0] for name in imports(path)} & heavy, path


def test_a_report_needs_no_torch() -> None:
    """Only what it takes from training/ may name torch, and there inside functions."""
    for path in [ROOT / "fedvssl/report.py", *(ROOT / "fedvssl/reporting").glob("*.py")]:
        assert not {name.split(".")[0] for name in imports(path)} & {"torch", "torchvision", "lightning"}, path


def test_no_import_cycles() -> None:
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in FILES}
    graph = {name: imports(path) & modules.keys() - {name} for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())

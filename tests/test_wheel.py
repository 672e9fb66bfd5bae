"""The wheel: everything inside it, and it works from any folder without the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, text=True)
    return target


def files_of(folder: Path) -> set[Path]:
    """Files below a folder, as relative paths, without those that Python compiles."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path for path in files if "__pycache__" not in path.parts}


def run(installed: Path, folder: Path, *words: str) -> str:
    """Run `python <words>` in `folder` with the wheel before everything else on the path."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, *words]
    result = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return result.stdout


def test_the_wheel_holds_the_package_its_configuration_and_what_people_type(installed: Path) -> None:
    inside = {path for path in files_of(installed) if path.parts[0] == "fedvssl"}
    assert {path.parts[0].partition("-")[0] for path in files_of(installed) - inside} == {"bin", "fedvssl"}
    expected = {Path("fedvssl/scripts/compare_results.py"), Path("fedvssl/scripts/show_task.py")}
    expected |= {Path("fedvssl") / path for path in files_of(ROOT / "fedvssl")}
    expected |= {Path("fedvssl") / part / path for part in ("conf", "data_tools") for path in files_of(ROOT / part)}
    assert inside == expected


def test_the_wheel_is_what_is_imported(installed: Path, tmp_path: Path) -> None:
    out = run(installed, tmp_path, "-c", "import fedvssl, fedvssl.config as c; print(fedvssl.__file__, c.conf_dir())")
    package, conf = out.split()
    assert Path(package).is_relative_to(installed) and Path(conf) == installed / "fedvssl" / "conf"


def test_pretraining_configuration_resolves(installed: Path, tmp_path: Path) -> None:
    out = run(installed, tmp_path, "-m", "fedvssl.main", "experiment=kinetics400", "--cfg", "job")
    assert "rounds: 540" in out and "pool_size: 100" in out


def test_configurations_compose(installed: Path, tmp_path: Path) -> None:
    code = "from fedvssl.config import compose\n"
    code += "for name in ('base', 'finetune', 'test', 'sweep'): "
    code += "print(compose(name, ['data_dir=/x'])['data']['media_dir'])\nprint(compose('export', [])['model']['depth'])"
    assert run(installed, tmp_path, "-c", code).split() == ["/x/ucf101/zips"] * 4 + ["18"]


def test_data_tools_run(installed: Path, tmp_path: Path) -> None:
    code = """
import contextlib, runpy, sys
for name in ("partition", "extract_frames", "synthetic", "ucf101.prepare", "fetch"):
    sys.argv = [name, "--help"]
    with contextlib.suppress(SystemExit):
        runpy.run_module(f"fedvssl.data_tools.{name}", run_name="__main__", alter_sys=True)
"""
    assert run(installed, tmp_path, "-W", "ignore", "-c", code).count("usage:") == 5


@pytest.mark.parametrize("words", [["--version"], ["data", "ucf101.prepare", "--help"], ["report", "--help"]])
def test_the_console_command_runs(installed: Path, tmp_path: Path, words: list[str]) -> None:
    out = run(installed, tmp_path, str(installed / "bin" / "fedvssl"), *words)
    assert out.startswith(("fedvssl 0.", "usage: prepare.py", "usage: python -m fedvssl.report"))


def test_the_package_is_typed_and_its_api_is_there(installed: Path, tmp_path: Path) -> None:
    assert (installed / "fedvssl" / "py.typed").is_file()
    assert "Run" in run(installed, tmp_path, "-c", "import fedvssl; print(fedvssl.Run)")


@pytest.mark.parametrize(
    ("words", "sentence"), [(["compare_results"], "Name the rows"), (["show_task", "--help"], "usage: show_task.py")]
)
def test_the_python_scripts_run(installed: Path, tmp_path: Path, words: list[str], sentence: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", f"fedvssl.scripts.{words[0]}", *words[1:]]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert sentence in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_report_finds_its_style_and_references(installed: Path, tmp_path: Path) -> None:
    settings = "rounds: 3\npool_size: 2\ndata: {name: toy}\nstrategy: {_target_: a.Own}\n"
    settings += "task: {module: {_target_: fedvssl.tasks.ctp.CtP}}\n"
    (tmp_path / "config.yaml").write_text(settings)
    assert run(installed, tmp_path, "-m", "fedvssl.report", ".").strip() == "report.html"
    page = (tmp_path / "report.html").read_text()
    assert "prefers-color-scheme" in page and "2207.01975" in page and "2105.02545" in page

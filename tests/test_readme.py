"""What README and pages name exists: files, modules, scripts, configuration keys, options of the data tools."""

import contextlib
import importlib.util
import io
import re
import shlex
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest

from benchmarks.readme import read_pages
from fedvssl import cli, config
from fedvssl.chosen_run import with_run
from fedvssl.formats.model_card import TORCHVISION
from fedvssl.overrides import parse_overrides
from tests.files.test_runs import write_run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = read_pages()
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGES, flags=re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines() if line.strip()]
MODULES = [words for words in COMMANDS if words[:2] == ["python", "-m"]]
ALL_PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run that the commands name, with its twentieth round."""
    monkeypatch.chdir(tmp_path)
    return write_run(Path("outputs/2026-01-31/12-00-00/fedvssl_results"), minutes_ago=1, rounds=(20,))


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        if path.startswith("http"):
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
            found = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in found, link


def test_reading_order_has_at_most_eight_links() -> None:
    section = README.split("## Reading the code")[1].split("##")[0]
    assert 0 < len(re.findall(r"\]\(", section)) <= 8


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_scripts_and_modules_exist(words: list[str]) -> None:
    if words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2])
    elif words[0] == "fedvssl":
        assert words[1] in {*cli.ALL_NAMES, "--help"} or (words[1] == "data" and words[2] in cli.DATA_TOOLS)
    else:
        assert words[0] in ("bash", "python") and (ROOT / words[1]).is_file()


@pytest.mark.parametrize("words", [w for w in MODULES if w[2] == "fedvssl.main"], ids=" ".join)
def test_pretraining_overrides_are_known(words: list[str], run: Path) -> None:
    assert config.compose("base", parse_overrides(with_run("main", words[3:])))["strategy"]


@pytest.mark.parametrize("words", [w for w in COMMANDS if w[1].startswith("scripts/dist_")], ids=" ".join)
def test_finetuning_overrides_are_known(words: list[str]) -> None:
    assert config.compose(words[2], parse_overrides(words[4:]))["data"]


EVALUATIONS = ("retrieval", "knn", "linear_probe", "motion_probe", "semi", "export")


@pytest.mark.parametrize("words", [w for w in MODULES if w[2].removeprefix("fedvssl.") in EVALUATIONS], ids=" ".join)
def test_evaluation_and_export_overrides_are_known(words: list[str], run: Path) -> None:
    command, overrides = words[2].removeprefix("fedvssl."), [re.sub("[<>]", "", word) for word in words[3:]]
    found = config.compose(command, parse_overrides(with_run(command, overrides)))
    assert found["checkpoint"].endswith("round-20-weights.npz")


def test_the_name_of_a_run_is_one_that_fine_tuning_takes(run: Path) -> None:
    command = "python -m fedvssl.finetune finetune run=last"
    assert f"`{command}`" in PAGES
    assert config.read_command_line("finetune", command.split()[3:])["pretrained"] == str(run / "round-20-weights.npz")


def test_the_snippet_for_torchvision_is_the_one_that_is_tested() -> None:
    assert f"```python\n{TORCHVISION}```" in PAGES


@cache
def usage(module: str) -> str:
    """What a tool prints with --help; once for all commands that start it."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), patch.object(sys, "argv", [module, "--help"]), pytest.raises(SystemExit):
        import_module(module).main()
    return told.getvalue()


@pytest.mark.parametrize("words", [w for w in MODULES if w[2].startswith("data_tools")], ids=" ".join)
def test_flags_of_the_data_tools_are_known(words: list[str]) -> None:
    known = {*re.findall(r"(?<![\w-])--\w+", usage(words[2]))}
    assert {flag for flag in words if flag.startswith("--")} <= known and "--num" not in known


def test_no_place_in_the_documents_waits_for_a_number() -> None:
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")):
        assert "@@" not in path.read_text(encoding="utf-8"), path

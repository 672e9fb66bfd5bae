"""Ray is asked for by the simulation alone: everything else works where it is not installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from fedvssl.main import run
from tests.federation import ROOT, tiny_config, write_clients

CODE = """
import importlib, pkgutil, sys
from pathlib import Path
sys.modules["ray"] = None  # an import of it fails
import fedvssl
for module in pkgutil.walk_packages(fedvssl.__path__, "fedvssl."):
    importlib.import_module(module.name)
from fedvssl.main import run
from tests.federation import tiny_config
run_dir = Path(sys.argv[2])
run(tiny_config(Path(sys.argv[1]), "engine=local", "rounds=1"), run_dir=run_dir)
assert (run_dir / "round-1-weights.npz").is_file()
"""


def test_all_modules_and_a_run_with_local_clients_need_no_ray(tmp_path: Path) -> None:
    write_clients(tmp_path / "data", (1, 1, 1))
    (tmp_path / "run").mkdir()
    words = [sys.executable, "-c", CODE, str(tmp_path / "data"), str(tmp_path / "run")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_simulation_says_that_it_needs_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"needs Ray: pip install 'fedvssl\[ray\]', or set engine=local\."):
        run(tiny_config(tmp_path), run_dir=tmp_path)

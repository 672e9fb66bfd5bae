import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from lightning.fabric.utilities import registry

from fedvssl import config, finetune_epochs, server_rounds
from tests import composing
from tests.federation import write_clients

config.hydra_compose = composing.compose  # the same in a tenth of the time, as test_composing.py shows
registry.entry_points = cache(registry.entry_points)  # every Fabric reads what all installed packages say of themselves


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos and lists of three clients, for the tests of one file."""
    path = tmp_path_factory.mktemp("data")
    write_clients(path)
    return path


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let seconds pass at once, on a clock that else counts this process's own: a busy machine cannot slow it down."""
    passed: list[float] = []
    monkeypatch.setattr(time, "perf_counter", lambda: time.process_time() + sum(passed))
    return passed.append


@pytest.fixture
def drawn() -> None:
    """For a test that looks at the picture of the losses."""


@pytest.fixture(autouse=True)
def _no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no losses in other tests: a picture takes longer than the rounds of a tiny run."""
    if "drawn" not in request.fixturenames:
        for module in (server_rounds, finetune_epochs):
            monkeypatch.setattr(module, "plot_losses", lambda *_: None)

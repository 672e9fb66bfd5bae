import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedvssl import config
from tests import composing
from tests.federation import write_clients

config.hydra_compose = composing.compose  # the same in a tenth of the time, as test_composing.py shows


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

"""A sweep whose commands are stood in for."""

from pathlib import Path

import pytest

from fedvssl import sweep
from tests.action_set import write_action_set
from tests.federation import write_clients
from tests.stand_in import StandIn


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_action_set(folder)
    write_clients(folder)
    return folder


@pytest.fixture
def words(data_dir: Path, tmp_path: Path) -> list[str]:
    """Overrides for two rows and everything that they can be measured by; others are left out."""
    rows = [
        "mean_frame",
        "random_initial",
        "centralised",
        "alone",
        "fedavg",
        *(f"fedvssl_{pair}" for pair in ("0_0", "1_0", "0_1", "1_1", "09_0")),
    ]
    return [
        *(f"data_dir={data_dir}", "data.num_classes=3", f"work_dir={tmp_path}/sweep", "seeds=[1]"),
        *("overrides.main=['pool_size=3','rounds=2']", *(f"rows.{row}=null" for row in rows)),
        "measures.motion_probe=null",
    ]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command is run to describe the machine."""
    monkeypatch.setattr(sweep, "machine", lambda precision: f"Zen, 2 cores, no GPU, {precision}, torch 2.15")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(sweep, "run_child", stand_in)
    return stand_in

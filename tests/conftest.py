from pathlib import Path

import pytest

from tests.federation import write_clients


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos and lists of three clients, for the tests of one file."""
    path = tmp_path_factory.mktemp("data")
    write_clients(path)
    return path

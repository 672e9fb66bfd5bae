"""Sentences of the engines: before the start, and at the end of a run that broke down."""

from pathlib import Path

import pytest

from fedvssl import engines
from fedvssl.main import check_engine


def test_a_folder_that_is_too_long_for_the_sockets_of_ray_is_told_before_the_start(monkeypatch):
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", "/" + "x" * 60)
    with pytest.raises(ValueError, match=r"is too long for Ray.*RAY_TMPDIR.*engine=local"):
        check_engine("simulation")
    check_engine("local")
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    check_engine("simulation")


def test_the_first_error_of_a_chain_is_told():
    try:
        try:
            raise OSError("AF_UNIX path length cannot exceed 107 bytes")
        except OSError as error:
            raise RuntimeError("crashed") from error
    except RuntimeError as error:
        assert str(engines.root(error)).startswith("AF_UNIX")
    assert "Mend that" in engines.end_of_run("All 3 clients of round 1 have failed. Client 0 failed: x", Path("r"))
    assert "Mend" not in engines.end_of_run("Interrupted", Path("r"))

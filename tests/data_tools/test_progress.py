import pytest

import data_tools.progress
from data_tools.progress import Progress, show_bytes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(data_tools.progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_in_a_log(clock: list[float], capsys: pytest.CaptureFixture) -> None:
    with Progress("extracting", total=200) as progress:
        progress.start_at(100)  # kept from before: no part of the rate
        for _ in range(40):
            clock[0] += 0.5
            progress.advance()
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "extracting  120/200  60%  2/s  left 0:40",
        "extracting  140/200  70%  2/s  left 0:30",
        "extracting  140/200  70%  2/s  left 0:30",
    ]


def test_unknown_total_and_no_rate(clock: list[float]) -> None:
    with Progress("fetching", total=None, show=show_bytes) as progress:
        assert progress.line() == "fetching  0.0 B"
        clock[0] += 2
        progress.advance(3_000_000)
        assert progress.line() == "fetching  3.0 MB  1.5 MB/s"


def test_no_last_line_after_a_failure(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(ValueError), Progress("extracting", total=2):
        raise ValueError
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("amount", "text"), [(999, "999.0 B"), (113_943, "113.9 kB"), (6_960_400_115, "6.96 GB")])
def test_show_bytes(amount: int, text: str) -> None:
    assert show_bytes(amount) == text

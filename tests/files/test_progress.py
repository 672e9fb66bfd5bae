"""The one progress display: lines with count, rate and time left, a bar in a terminal."""

import pytest

from fedvssl.files import progress as module
from fedvssl.files.progress import Progress, clock, show_bytes, show_count


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds[0])
    return seconds


def test_tells_pace_and_time_left(now: list[float]) -> None:
    lines: list[str] = []
    progress = Progress("round", 20, done=1, write=lines.append, every_seconds=0)
    now[0] += 30
    progress.update(2, "loss 13.00")
    now[0] += 34.1
    progress.update(3, lambda: "loss 12.31  5 clients")
    assert lines == [
        "round 2/20  loss 13.00  30.0 s",
        "round 3/20  loss 12.31  5 clients  34.1 s  left 9:40",
    ]


def test_holds_lines_back_but_not_the_last(now: list[float]) -> None:
    lines: list[str] = []
    notes: list[int] = []
    progress = Progress("clips", 50, write=lines.append, every_seconds=2.5)
    for done in range(1, 51):
        now[0] += 0.125
        progress.update(done, lambda: notes.append(1) or "loss 1.0")
    assert lines == [
        "clips 20/50  loss 1.0  8/s  left 0:04",
        "clips 40/50  loss 1.0  8/s  left 0:01",
        "clips 50/50  loss 1.0  8/s  left 0:00",
    ]
    assert len(notes) == 3, "a note is computed only for a line that is written"


def test_lines_in_a_log(now: list[float], capsys: pytest.CaptureFixture) -> None:
    with Progress("extracting", 200) as progress:
        progress.start_at(100)  # kept from before: no part of the rate
        for _ in range(45):
            now[0] += 0.5
            progress.advance()
    assert capsys.readouterr().out.splitlines() == [
        "extracting 120/200  0.5 s  left 0:40",
        "extracting 140/200  0.5 s  left 0:30",
        "extracting 145/200  0.5 s  left 0:28",
    ], "the last line comes even if the count has stopped short"


def test_the_last_line_comes_once(now: list[float], capsys: pytest.CaptureFixture) -> None:
    with Progress("extracting", 2) as progress:
        for _ in range(2):
            now[0] += 1
            progress.advance()
    assert capsys.readouterr().out.splitlines() == ["extracting 2/2  1.0 s  left 0:00"]


@pytest.mark.parametrize("counts", [(0, []), (2, [2]), (100, [30, 60, 90, 120])])
def test_a_log_always_ends_with_a_line(counts: tuple, now: list[float], capsys: pytest.CaptureFixture) -> None:
    total, done = counts
    with Progress("extracting", total) as progress:
        progress.start_at(total if total == 2 else 0)
        for number in done:
            now[0] += 1
            progress.update(number)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"extracting {done[-1] if done else 0}/{total}")


def test_starting_anew_often_holds_no_line_back(now: list[float], capsys: pytest.CaptureFixture) -> None:
    progress = Progress("fetching", 100)
    for done in range(1, 8):
        now[0] += 4
        progress.start_at(done)
        progress.advance(0)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_names_are_shown_as_they_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    with Progress("fetching a[b]c.zip :smile:", 1) as progress:
        progress.advance()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with Progress("fetching a[b]c.zip", None, show=show_bytes) as progress:
        progress.advance(3_000_000)
    out = capsys.readouterr().out
    assert "fetching a[b]c.zip :smile: 1/1" in out and "3.0 MB" in out.rpartition(":smile:")[2]


def test_unknown_total_and_no_rate(now: list[float], capsys: pytest.CaptureFixture) -> None:
    with Progress("fetching", None, show=show_bytes):
        pass
    with Progress("fetching", None, show=show_bytes) as progress:
        now[0] += 2
        progress.advance(3_000_000)
    assert capsys.readouterr().out.splitlines() == ["fetching 0.0 B", "fetching 3.0 MB  1.5 MB/s"]


def test_no_last_line_after_a_failure(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(ValueError), Progress("extracting", 2):
        raise ValueError
    assert not capsys.readouterr().out


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with Progress("extracting", 2) as progress:
        progress.advance()
        progress.advance()
    out = capsys.readouterr().out
    assert "100%" in out and "extracting 2/2" not in out


@pytest.mark.parametrize(
    ("amount", "text"), [(999, "999.0 B"), (113_943, "113.9 kB"), (6_960_400_115, "6.96 GB"), (2e12, "2.00 TB")]
)
def test_show_bytes(amount: int, text: str) -> None:
    assert show_bytes(amount) == text


def test_counts_are_whole_and_rates_have_a_digit() -> None:
    assert [show_count(amount) for amount in (13320, 8.0, 13.44, 0.05)] == ["13320", "8", "13.4", "0.1"]


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 580, 36000)] == ["0:00", "1:00", "9:40", "10:00:00"]

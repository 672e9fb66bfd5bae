"""Progress that reads well in a terminal and in a log file."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import Progress as RichProgress
from rich.progress import TimeRemainingColumn


class Progress:
    """Counts towards `total`: a bar in a terminal, elsewhere a line every `seconds_between_lines` and at the end.

    Args:
        description: the first words of the line.
        total: where the count ends; None where nobody knows.
        show: how an amount is written, for example 1048576 -> "1.0 MB".
        seconds_between_lines: distance of the lines in a log.
    """

    def __init__(
        self,
        description: str,
        *,
        total: int | None,
        show: Callable[[float], str] = "{:.0f}".format,
        seconds_between_lines: float = 10.0,
    ) -> None:
        self.description = description
        self.total = total
        self.done = 0
        self._show = show
        self._seconds_between_lines = seconds_between_lines
        self._console = Console(highlight=False, soft_wrap=True)

    def __enter__(self) -> "Progress":
        self._counted = 0
        self._start = self._last_line = time.monotonic()
        self._bar = None
        if self._console.is_terminal:
            columns = (*RichProgress.get_default_columns()[:-1], TimeRemainingColumn(), "{task.fields[text]}")
            self._bar = RichProgress(*columns, console=self._console)
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self.total, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None:
            self._console.print(self.line())

    def start_at(self, done: int) -> None:
        """Set the count without letting it enter the rate: what an earlier run did, or 0 for a fresh start."""
        self.done, self._counted, self._start = done, 0, time.monotonic()
        self.advance(0)

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        self._counted += amount
        if self._bar:
            self._bar.update(self._task, completed=self.done, text=f"{self._show(self._rate())}/s")
        elif time.monotonic() - self._last_line >= self._seconds_between_lines:
            self._last_line = time.monotonic()
            self._console.print(self.line())

    def line(self) -> str:
        """Such as "extracting  120/731  16%  14/s  left 0:43"."""
        parts = [self.description, self._show(self.done)]
        rate = self._rate()
        if self.total:
            parts[-1] += f"/{self._show(self.total)}"
            parts.append(f"{100 * self.done // self.total}%")
        if rate:
            parts.append(f"{self._show(rate)}/s")
        if self.total and rate and self.done < self.total:
            parts.append(f"left {show_time((self.total - self.done) / rate)}")
        return "  ".join(parts)

    def _rate(self) -> float:
        seconds = time.monotonic() - self._start
        return self._counted / seconds if seconds > 0 else 0.0


def show_bytes(amount: float) -> str:
    """1_500_000 -> "1.5 MB" (powers of ten, as disks and servers count)."""
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} GB"


def show_time(seconds: float) -> str:
    """43 -> "0:43", 5700 -> "1:35:00"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

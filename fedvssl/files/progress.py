"""Progress of long work: a bar in a terminal, whole lines in a log; count, rate and time left."""

import math
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bar
from rich.progress import TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


def show_count(amount: float) -> str:
    """13320 -> "13320", 8.25 -> "8.2"."""
    return f"{amount:.1f}".removesuffix(".0")


def show_bytes(amount: float) -> str:
    """1_500_000 -> "1.5 MB" (powers of ten, as disks and servers count)."""
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} GB" if amount < 1000 else f"{amount / 1000:.2f} TB"


def clock(seconds: float) -> str:
    """580 -> "9:40", 36000 -> "10:00:00"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Lines such as "round 3/20  loss 12.31  5 clients  34.1 s  left 9:40"; inside `with`, a terminal shows a bar.

    Lines are whole, without carriage returns, so that a log file and `tail -f` show the same. The time left is told
    from the second step on, because the first one may have waited for the start of processes.

    Args:
        label: name of what is counted.
        total: end of the count; None if it is unknown.
        done: count of an earlier start, not part of the rate.
        show: formats an amount.
        write: takes a line; None writes to standard output, or draws a bar.
        every_seconds: least time between two lines; the last one always comes.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        *,
        done: int = 0,
        show: Callable[[float], str] = show_count,
        write: Callable[[str], object] | None = None,
        every_seconds: float = SECONDS_BETWEEN_LINES,
    ) -> None:
        self.label, self.total, self.show, self.every_seconds = label, total, show, every_seconds
        self._console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False) if write is None else None
        self._write = write or (lambda line: self._console.print(line))  # pyright: ignore[reportOptionalMemberAccess]
        self._bar: Bar | None = None
        self._written, self._told = time.monotonic(), -1  # time and count of the last line
        self.start_at(done)

    def start_at(self, done: int) -> None:
        """Set the count and measure the rate anew from here."""
        self.done = self._first = self._last = done
        self._started = self._marked = time.monotonic()
        self._warm = False
        if self._bar:
            self._bar.update(self._task, completed=done, total=self.total)

    def __enter__(self) -> "Progress":
        if self._console and self._console.is_terminal:
            columns = (*Bar.get_default_columns()[:-1], TimeRemainingColumn(), "{task.fields[note]}")
            self._bar = Bar(*columns, console=self._console)
            self._bar.start()
            self._task = self._bar.add_task(escape(self.label), total=self.total, completed=self.done, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None and self._told != self.done:
            self._write(self._line(time.monotonic(), ""))

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more."""
        self.update(self.done + amount)

    def update(self, done: int, note: str | Callable[[], str] = "") -> None:
        """Set the count. `note` may be a function: it is called only if it is shown."""
        now, self.done = time.monotonic(), done
        if self._bar:
            rate = (done - self._first) / max(now - self._started, 1e-9)
            self._bar.update(self._task, completed=done, note=f"{self.show(done)}  {self.show(rate)}/s")
        elif done >= (self.total or math.inf) or now - self._written >= self.every_seconds:
            self._write(self._line(now, note() if callable(note) else note))
            self._written = self._marked = now
            self._last = self._told = done
        if not self._warm:  # the first step includes the start of processes, so the rate leaves it out
            self._started, self._first, self._warm = now, done, True

    def _line(self, now: float, note: str) -> str:
        count = self.show(self.done) + (f"/{self.show(self.total)}" if self.total is not None else "")
        words = [f"{self.label} {count}", note]
        if self.done > self._last:
            seconds = (now - self._marked) / (self.done - self._last)
            words.append(f"{seconds:.1f} s" if seconds >= 0.2 else f"{self.show(1 / max(seconds, 1e-9))}/s")
        if self.total is not None and (self._warm or self.done >= self.total):
            mean_seconds = (now - self._started) / max(self.done - self._first, 1)
            words.append(f"left {clock(mean_seconds * max(self.total - self.done, 0))}")
        return "  ".join(word for word in words if word)

"""TensorBoard scalars of a run, written at once and without a thread: a full disk is an error like any other."""

import os
import re
import socket
import time
from numbers import Real
from pathlib import Path
from typing import Any

from fedvssl.files.atomic import naming


class Scalars:
    """One event file more in a folder.

    Args:
        folder: of the event files of all starts of the run.
        from_step: earlier starts' scalars of this step and later ones no longer count.
    """

    def __init__(self, folder: Path, *, from_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._host = Event, socket.gethostname()
        seconds, fraction = divmod(time.time_ns(), 10**9)  # in the name, because it orders the files
        self.path = folder / f"events.out.tfevents.{seconds:010d}.{fraction:09d}.{self._host}.{os.getpid()}"
        with naming(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = RecordWriter(self.path.open("xb"))
        self._write(file_version="brain.Event:2")
        self._write(step=from_step, session_log=SessionLog(status=SessionLog.START))
        self.flush()

    def add(self, values: dict[str, Any], *, step: int, prefix: str = "") -> None:
        """Write the numbers among the values as scalars `<prefix><name>`."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore

        for name, value in values.items():
            if isinstance(value, Real):
                tag = re.sub(r"[^-/\w.]", "_", prefix + name)
                self._write(step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=float(value))]))
        self.flush()

    def flush(self) -> None:
        with naming(self.path):
            self._writer.flush()

    def close(self) -> None:
        with naming(self.path):
            self._writer.close()

    def _write(self, **content: Any) -> None:
        with naming(self.path):
            self._writer.write(self._event(wall_time=time.time(), **content).SerializeToString())

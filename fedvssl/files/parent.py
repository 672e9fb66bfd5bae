"""Processes that end with the one that started them, also if that one was killed and could not end them itself.

A worker of multiprocessing watches the pipe that it shares with its parent. A command that another command or script
started watches the process whose id is in the environment.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time

STARTER = "FEDVSSL_ENDS_WITH"  # id of the process with which a command ends
EVERY_SECONDS = 0.5
GRACE_SECONDS = 30.0  # for a command to save and say what it has to


def end_with_parent() -> None:
    """Make this worker process end at once when its parent has ended; for the start of a worker."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a process of multiprocessing has a parent to watch"
    sentinel = parent.sentinel

    def watch() -> None:
        multiprocessing.connection.wait([sentinel])  # a parent that lives never writes to it
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_with_starter() -> None:
    """Make this command end as by SIGTERM when the process named in the environment has ended, if one is named."""
    if not (starter := os.environ.get(STARTER, "")).isdigit():
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and _exists(int(starter)):
            time.sleep(EVERY_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(128 + signal.SIGTERM)  # the main thread may wait for a process that is gone

    threading.Thread(target=watch, daemon=True).start()


def end_what_starts_with_this() -> None:
    """Make the commands that this process starts from here on end with it."""
    os.environ[STARTER] = str(os.getpid())


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

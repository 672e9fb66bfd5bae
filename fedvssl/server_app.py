"""The Flower ServerApp: the rounds of a run over Flower's grid."""

import threading
from dataclasses import dataclass, field

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedvssl.server_rounds import Run, run_rounds
from fedvssl.wire.grid import GridWire


@dataclass
class Outcome:
    """Signals between the server thread and its starter: `stop` ends the run and is set at its end, `error` is why."""

    stop: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


def build_server_app(
    run: Run, *, num_clients: int, timeout: float, outcome: Outcome, start_timeout: float | None = None
) -> ServerApp:
    """Build the server's app.

    Args:
        num_clients, timeout, start_timeout: as for `GridWire`.
        outcome: receives the end of the run.
    """
    app = ServerApp()

    @app.main()
    def serve(grid: Grid, context: Context) -> None:
        """Run the rounds, and tell the starter how they have ended."""
        limits = {"num_clients": num_clients, "timeout": timeout, "start_timeout": start_timeout}
        wire = GridWire(grid, run.introductions, **limits, stop=outcome.stop)
        try:
            run_rounds(wire, run)
        except BaseException as error:
            outcome.error = error
            raise
        finally:
            outcome.stop.set()

    return app

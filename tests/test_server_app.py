import contextlib

from flwr.app import Context, RecordDict

from fedvssl.client_app import build_client_app
from fedvssl.server_app import Outcome, build_server_app
from fedvssl.server_run import build_run
from fedvssl.wire.wire import FederationError
from tests.federation import LocalGrid, site_of, tiny_config, write_clients


def context_of(partition_id: int) -> Context:
    return Context(1, 1, {"partition-id": partition_id}, RecordDict(), {})


def test_the_app_tells_how_its_run_ends(tmp_path):
    write_clients(tmp_path / "data")
    config = tiny_config(tmp_path / "data", "rounds=1", "round_timeout=1")
    for reply, error in ((None, None), ("silence", FederationError)):
        outcome, run_dir = Outcome(), tmp_path / str(reply)
        app = build_server_app(build_run(config, run_dir=run_dir), num_clients=3, timeout=1, outcome=outcome)
        grid = LocalGrid(build_client_app(site_of(config, run_dir)), 3, lambda *_, reply=reply: reply)
        with contextlib.suppress(FederationError):
            app(grid, context_of(0))
        assert outcome.stop.is_set() and isinstance(outcome.error, error or type(None))

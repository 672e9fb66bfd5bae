"""Federated pre-training in simulation.

    python -m fedvssl.main data_dir=data
    python -m fedvssl.main data_dir=data pool_size=3 rounds=10 strategy.mix_coeff=1 client_resources.num_gpus=0.5

To continue a run, give the same settings and its folder; `rounds` may be higher:
    python -m fedvssl.main data_dir=data rounds=40 hydra.run.dir=outputs/<DATE>/<TIME>/fedvssl_results

Settings and presets are in conf/: base.yaml, strategy/, experiment/. Results go to outputs/<DATE>/<TIME>/<exp_name>/.
"""

import logging
import os
import sys
import threading
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from fedvssl.config import Config, conf_dir, for_hydra, to_dict
from fedvssl.files.ending import (
    Terminated,
    end_code,
    end_descendants,
    end_word,
    ending_descendants,
    interruptible,
    take_sigterm,
)
from fedvssl.files.lock import owned, release_all
from fedvssl.identity import CONFIG_FILE, SETTINGS_FILE, claim, reject_other_run

if TYPE_CHECKING:  # torch, flwr and ray are imported when a run starts, so that --help answers at once
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

    from fedvssl.server_app import Outcome

log = logging.getLogger("fedvssl.main")  # __name__ is "__main__" here

FLOWER_LOG = "flower.log"
GRACE_SECONDS = 60.0  # for the engine to end its actors
# Files that a run writes, as patterns below its folder.
WRITES = (
    *(SETTINGS_FILE, CONFIG_FILE, "environment.json", "metrics.jsonl", "clients.json", "seen_videos.npz"),
    *("*.png", "round-*", "clients/*/*.npz"),
)


def main() -> None:
    """Run the command: mistakes end with `error: <sentence>` and exit code 2, a run that cannot go on with exit code 1.

    The words are first read by the rules of the other commands, then by Hydra.
    """
    try:
        sys.argv[1:] = for_hydra(sys.argv[1:])
        with interruptible():
            _main()
    except ValueError as error:
        sys.exit(_failed(error, code=2))
    except KeyboardInterrupt as error:
        sys.exit(_failed(f"{end_word(error)} before the run began.", code=end_code(error)))


@hydra.main(config_path=str(conf_dir()), config_name="base", version_base="1.3")
def _main(composed: DictConfig) -> None:
    for name in ("FLWR_TELEMETRY_ENABLED", "RAY_USAGE_STATS_ENABLED"):
        os.environ.setdefault(name, "0")
    logging.raiseExceptions = False  # a full disk is reported once, not for every line of a log
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        with owned(run_dir, writes=WRITES, tell=log.info):
            run(to_dict(composed), run_dir=run_dir)
    except (ValueError, TypeError, HydraException, OmegaConfBaseException) as error:  # all but the first: a wrong type
        sys.exit(_failed(_one_line(error), code=2))
    except (RuntimeError, OSError) as error:
        sys.exit(_failed(_end_of_run(error, run_dir), code=1))
    except KeyboardInterrupt as error:
        code = _failed(_end_of_run(end_word(error), run_dir), code=end_code(error))
        os._exit(code)  # sys.exit would wait for the server's thread, which waits for clients that are gone


def run(config: Config, *, run_dir: Path) -> None:
    """Check everything, then train.

    Raises:
        ValueError: for a mistake in the configuration or the data, before anything is started.
        RuntimeError, OSError: if the run cannot go on; everything saved so far is kept.
    """
    log.info("Loading PyTorch and Flower ...")
    from fedvssl.client.order import Site
    from fedvssl.client_app import build_client_app
    from fedvssl.data.client_lists import check_client_lists
    from fedvssl.data.seen import keep_seen
    from fedvssl.files.earlier_round import go_back
    from fedvssl.files.environment import record_environment
    from fedvssl.files.rounds import last_round
    from fedvssl.preflight import check_data, expected_report, fit_precision, fit_to_machine, measure_task
    from fedvssl.server_app import Outcome, build_server_app, complete

    _send_flower_log_to(run_dir / FLOWER_LOG, terminal=config["verbose"])
    config = measure_task(fit_to_machine(config))
    videos, seen = check_data(config), check_client_lists(config)
    config = fit_precision(config, videos)
    if config["from_round"] is not None:
        reject_other_run(run_dir, config)
        log.info("%s", go_back(run_dir, config["from_round"]))
    outcome = Outcome()
    report = expected_report(config, videos)
    server_app = build_server_app(config, run_dir=run_dir, outcome=outcome, report=report)
    claim(run_dir, config)
    keep_seen(run_dir, seen)
    done = last_round(run_dir)
    if done >= config["rounds"]:
        complete(config, run_dir=run_dir)
        log.info("All %d rounds are already in %s.", done, run_dir)
        return
    record_environment(run_dir, done=done)
    log.info("%s in %s", f"Continuing after round {done}" if done else "Starting", run_dir)
    site = Site(
        media_dir=os.path.abspath(config["data"]["media_dir"]),
        partition_dir=os.path.abspath(config["partition_dir"]),
        state_dir=os.path.abspath(run_dir / "clients"),
        device="cuda" if config["client_resources"]["num_gpus"] else "cpu",
        num_workers=config["training"]["num_workers"],
    )
    simulate(server_app, build_client_app(site), config=config, run_dir=run_dir, outcome=outcome)
    log.info("Done: %s", run_dir)


def simulate(
    server_app: "ServerApp", client_app: "ClientApp", *, config: Config, run_dir: Path, outcome: "Outcome"
) -> None:
    """Run both apps in Flower's simulation engine, one actor for each client that trains at a time.

    Only this function uses `run_simulation`, which Flower has deprecated in favour of its own command line.

    Raises:
        RuntimeError: if the server ends the run or the engine breaks down.
    """
    from flwr.simulation import run_simulation

    from fedvssl.wire.wire import FederationError

    verbose = config["verbose"]
    with (
        ending_descendants() as before,  # Ray leaves a stopped client behind
        run_dir.joinpath(FLOWER_LOG).open("a") as ray_log,
        redirect_stdout(sys.stdout if verbose else ray_log),
    ):
        returned = _watch(outcome, run_dir, before)
        log.info("Starting Flower's simulation engine; in the first round each client's process loads PyTorch ...")
        try:
            start_ray(config)
            run_simulation(server_app, client_app, config["pool_size"], backend_config=backend(config))
        except FederationError:
            raise
        except Exception as error:
            traceback.print_exception(error, file=ray_log)
            who = "The server" if error is outcome.error else "Flower's simulation"
            cause = _one_line(error.__cause__ or error)
            raise RuntimeError(f"{who} broke down ({cause}); see {run_dir / FLOWER_LOG}.") from error
        finally:
            returned.set()
            outcome.stop.set()  # the server's thread must not wait for clients that are gone


def start_ray(config: Config) -> None:
    """Start Ray before Flower does, and take SIGTERM back from it: Ray's own handler prints a stack and aborts.

    Raises:
        Terminated: if SIGTERM comes meanwhile.
    """
    import ray

    from fedvssl.files.environment import num_cores
    from fedvssl.preflight import num_gpus

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning of every actor without a GPU
    path = os.pathsep.join([*sys.path, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["PYTHONPATH"] = path  # as Flower does it: the clients' processes import what this one can
    try:
        ray.init(
            address="local",  # not a Ray head that already runs on this machine
            num_cpus=num_cores(),
            num_gpus=num_gpus(),
            include_dashboard=False,
            logging_level=logging.INFO if config["verbose"] else logging.ERROR,
            log_to_driver=config["verbose"],
            runtime_env={"env_vars": {"PYTHONPATH": path}},
        )
    except SystemExit as error:
        raise Terminated from error
    take_sigterm()


def backend(config: Config) -> Any:
    """Options of Flower's engine: one actor for each client that trains at a time."""
    resources = {
        **config["client_resources"],
        # A killed actor would go back into Flower's pool and fail in every later round. A restarted one repeats its
        # training call, which gives the same numbers: it starts from files and a seed.
        "max_restarts": -1,
        "max_task_retries": 1,
    }
    return {"client_resources": resources}


def _watch(outcome: "Outcome", run_dir: Path, before: set[int]) -> threading.Event:
    """End the process if the engine does not return soon after the run's end; the caller sets the event when it does.

    The engine waits for every client that still trains, even after the round's timeout. Processes that were there
    before it stay.
    """
    returned = threading.Event()

    def watch() -> None:
        outcome.stop.wait()
        if not returned.wait(GRACE_SECONDS):
            log.warning("Flower's engine has not ended within %g s of the run; it is ended now.", GRACE_SECONDS)
            code = _failed(_end_of_run(outcome.error, run_dir), code=1) if outcome.error else 0
            end_descendants(but=before)
            release_all()
            os._exit(code)

    threading.Thread(target=watch, daemon=True).start()
    return returned


def _send_flower_log_to(path: Path, *, terminal: bool) -> None:
    """Write Flower's log to a file, and to the terminal only if asked for."""
    flower = logging.getLogger("flwr")
    flower.propagate = False  # Hydra's root handler would print every line a second time
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(levelname)s  %(message)s"))
    flower.handlers = [handler, *(flower.handlers if terminal else [])]


def _one_line(error: object) -> str:
    """Error as one line; its class is named if the message alone may say nothing, as with KeyError."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    return text if isinstance(error, str | ValueError | RuntimeError) else f"{type(error).__name__}: {text}"


def _end_of_run(error: object, run_dir: Path) -> str:
    """Sentence on the end of a run, and on how to go on; a run that diverged would only fail again."""
    reason = _one_line(error).removesuffix(".")
    if "diverged" in reason or "not saved" in reason:
        return (
            f"{reason}. To go back to a round before that, run again with hydra.run.dir={run_dir} and "
            "from_round=<number> (0: the start). A run with another learning rate needs another folder, and may start "
            "from a round with init=<round file>."
        )
    return f"{reason}. Run again with hydra.run.dir={run_dir} to continue."


def _failed(error: object, *, code: int) -> int:
    print(f"error: {error}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    main()

"""The Slurm script, with stand-ins for Slurm, Ray and Python: it starts all, passes words and signals on, ends all."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAND_INS = {
    "scontrol": "#!/bin/bash\nprintf 'localhost\\nlocalhost\\n'\n",
    "srun": '#!/bin/bash\nwhile [[ $1 != ray ]]; do shift; done\nexec "$@"\n',
    # A head listens, another machine only lives; FAILS names the one that ends at once.
    "ray": f"""#!{sys.executable} -S
import os, socket, sys, time
own = "head" if "--head" in sys.argv else "other"
with open(f"{{os.environ['TOLD']}}/{{own}}", "w") as file:
    file.write(f"{{os.getpid()}}")
if os.environ.get("FAILS") == own:
    sys.exit(1)
if own == "head":
    server = socket.create_server(("localhost", int(sys.argv[sys.argv.index("--port") + 1])))
time.sleep(600)
""",
    # "-": have all machines joined? Otherwise the run.
    "python": """#!/bin/bash
if [[ $1 == - ]]; then [[ -z ${FAILS:-} && -s $TOLD/other ]]; exit; fi
trap 'echo ended in order > "$TOLD/run"; exit 5' TERM
echo "$@" > "$TOLD/words"
[[ -z ${WAITS:-} ]] || while true; do sleep 0.05; done
exit 3
""",
}


def start(folder: Path, **settings: str) -> subprocess.Popen:
    (folder / "bin").mkdir()
    for name, text in STAND_INS.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    (folder / "activate").mkdir()
    (folder / "activate/bin").mkdir()
    (folder / "activate/bin/activate").write_text("")
    with socket.create_server(("localhost", 0)) as server:
        job = server.getsockname()[1] % 20000  # a port that is probably free
    slurm = {"SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_NODELIST": "both", "SLURM_JOB_ID": str(job)}
    own = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "VENV": "activate", "TOLD": str(folder)}
    script = [str(ROOT / "scripts/slurm/cluster.sbatch"), "rounds=1", "data_dir=a b"]
    return subprocess.Popen(["bash", *script], env={**os.environ, **slurm, **own, **settings}, stderr=subprocess.PIPE)


def lives(path: Path) -> bool:
    """True if the process whose id a stand-in has written is there, and no zombie that nobody has collected."""
    status = Path(f"/proc/{path.read_text()}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def wait_for(path: Path) -> None:
    end = time.monotonic() + 100
    while not path.is_file():
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.05)


def test_the_run_gets_the_words_and_its_exit_code_is_that_of_the_job(tmp_path: Path) -> None:
    assert start(tmp_path).wait(timeout=200) == 3
    words = (tmp_path / "words").read_text()
    assert words.startswith("-m fedvssl.main engine=cluster ray.address=localhost:")
    assert "rounds=1 data_dir=a b" in words
    end = time.monotonic() + 100
    while lives(tmp_path / "head") or lives(tmp_path / "other"):
        assert time.monotonic() < end, "a Ray is left behind"
        time.sleep(0.05)


def test_a_signal_ends_the_run_in_order(tmp_path: Path) -> None:
    job = start(tmp_path, WAITS="1")
    wait_for(tmp_path / "words")
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=200) == 5 and (tmp_path / "run").read_text() == "ended in order\n"


@pytest.mark.parametrize("fails", ["head", "other"])
def test_a_ray_that_cannot_start_ends_the_job_at_once(fails: str, tmp_path: Path) -> None:
    job = start(tmp_path, FAILS=fails)
    _, told = job.communicate(timeout=200)
    assert job.returncode == 1 and b"Ray has ended on a machine" in told
    assert not (tmp_path / "words").exists()

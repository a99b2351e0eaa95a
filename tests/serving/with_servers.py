"""Start two vLLM servers on loopback, run a command while they are up, stop them: `make serve-test`.

    python tests/serving/with_servers.py SERVER_PYTHON COMMAND...

SERVER_PYTHON is the interpreter of the servers' own virtual environment, whose packages do not go together with the trainer's.
The command finds addresses and folders in TUTELAGE_SERVERS, as JSON.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.serving.control import EXTENSION

SOURCE = Path(__file__).resolve().parents[2] / "src"
WAIT_SECONDS = 900
"""Until both servers answer; each takes one to two and a half minutes on an idle core."""
SHAPE = {"hidden": 64, "heads": 2, "kv_heads": 1, "head_dim": 32, "intermediate": 128, "max_context": 512}
FLAGS = ("--dtype", "float32", "--max-model-len", "256", "--enforce-eager", "--max-logprobs", "64", "--host", "127.0.0.1")


def main(server_python: str, command: list[str]) -> int:
    """The exit code of the command, or 1 where the servers did not come up."""
    with tempfile.TemporaryDirectory(prefix="tutelage-servers-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        tokenizer = make_tokenizer("0123456789+=;ab\n", chat=True)
        make_model(folder / "teacher", tokenizer=tokenizer, shape=Shape(**SHAPE, tie=False, initial_std=0.3), seed=2)
        make_model(folder / "student", tokenizer=tokenizer, shape=Shape(**SHAPE, tie=True, initial_std=0.2), seed=1)
        install_plugin(folder / "plugin")
        extra = {
            "teacher": ("--weight-transfer-config", '{"backend": "nccl"}'),
            "student": ("--logprobs-mode", "processed_logprobs", "--worker-extension-cls", EXTENSION),
        }
        ports = {role: free_port() for role in extra}
        started = {role: start(server_python, folder / role, ports[role], extra[role]) for role in extra}
        try:
            began = time.monotonic()
            for role, process in started.items():
                if not up(ports[role], process, until=began + WAIT_SECONDS):
                    print(f"The {role}'s server did not come up:\n{(folder / f'{role}.log').read_text()[-4000:]}", flush=True)
                    return 1
            print(f"Both servers are up after {time.monotonic() - began:.0f} s.", flush=True)
            places = {role: {"url": f"http://127.0.0.1:{port}", "folder": str(folder / role)} for role, port in ports.items()}
            return subprocess.run(command, env=os.environ | {"TUTELAGE_SERVERS": json.dumps(places)}, check=False).returncode
        finally:
            for process in started.values():
                stop(process)


def install_plugin(folder: Path) -> None:
    """What a package with an entry point leaves when it is installed, so that the servers find `gloo_engine`."""
    about = folder / "gloo_engine-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: gloo-engine\nVersion: 0\n")
    (about / "entry_points.txt").write_text("[vllm.general_plugins]\ngloo_engine = gloo_engine:register\n")
    shutil.copy(Path(__file__).with_name("gloo_engine.py"), folder)


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(server_python: str, model: Path, port: int, extra: tuple[str, ...]) -> "subprocess.Popen[bytes]":
    """A server of a model folder; its output goes to a log beside the folder."""
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{SOURCE}{os.pathsep}{model.parent / 'plugin'}",  # for the worker extension and the engine
    }
    command = [
        server_python,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(model),
        "--port",
        str(port),
        *FLAGS,
        *extra,
    ]
    with model.with_suffix(".log").open("wb") as log:
        # a session of its own: an interrupt at the terminal reaches the tests, and they stop the servers
        return subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def up(port: int, process: "subprocess.Popen[bytes]", *, until: float) -> bool:
    """Whether a server answers before the time is up or its process is gone."""
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return True
        except OSError:
            time.sleep(1.0)
    return False


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a server by its process id: it takes its engine with it when it is asked, and is ended when it does not listen."""
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=30)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped as well
    sys.exit(main(sys.argv[1], sys.argv[2:]))

"""One side of a bench, in a process of its own: `python -m tutelage.lab.bench.worker`, started by the bench.

It reads what to build, says that it is ready, and works whenever it is told to; the end of its input ends it.
"""

from typing import Any

import torch

from tutelage.lab.bench.channel import Channel
from tutelage.lab.bench.settings import HeadBench, StepBench, of_json


def main() -> None:
    """Build one side and serve it."""
    torch.set_num_threads(1)
    channel = Channel()
    job = channel.wait()
    _serve(of_json(job["bench"], job["settings"]), job, channel)


def _serve(settings: HeadBench | StepBench, job: dict[str, Any], channel: Channel) -> None:
    if isinstance(settings, HeadBench):
        from tutelage.lab.bench.head import serve

        serve(settings, job["side"], channel)
    elif job["side"] == "ours":
        from tutelage.lab.bench.our_step import serve as serve_ours

        serve_ours(settings, job["folder"], channel)
    else:
        from tutelage.lab.bench.peer_step import serve as serve_peers

        serve_peers(settings, job["folder"], channel)


if __name__ == "__main__":
    main()

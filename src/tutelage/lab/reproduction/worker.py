"""A process that runs jobs: `python -m tutelage.lab.reproduction.worker`, started by the pool.

A line of input is a job, or the models of a task to make; a line of output says that it is done, and what came of it.
"""

from typing import Any

import torch

from tutelage.lab import tasks
from tutelage.lab.bench.channel import Channel
from tutelage.lab.reproduction.jobs import TEACHER_SEED, Job
from tutelage.lab.reproduction.runs import execute
from tutelage.lab.tasks import model_of


def main() -> None:
    """Serve until the other side has gone."""
    torch.set_num_threads(1)
    channel = Channel()
    while True:
        channel.send(answer(channel.wait()))


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """Carry out one message."""
    if "job" in message:
        return {"result": execute(Job.of_json(message["job"])).as_json()}
    if "model" in message:
        task, role, seed = message["model"]
        model_of(tasks.get(task), role, seed=seed if role == "student" else TEACHER_SEED)
    return {}


if __name__ == "__main__":
    main()

"""What somebody sees who waits: a bar on a terminal, a line now and then elsewhere, and sample rollouts on request."""

import time
from collections.abc import Mapping, Sequence
from typing import final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from tutelage.tracking.registry import describe
from tutelage.tracking.wording import count, duration, harmless, value

_SHOWN = (
    "eval/greedy_accuracy_fraction",
    "signal/reverse_kl_nats",
    "train/loss_nats",
    "rollout/truncated_fraction",
    "cache/found_fraction",
)


@final
class RunProgress:
    """Progress of a run on standard error; use it as a context manager."""

    def __init__(
        self, num_steps: int, *, start: int = 0, title: str = "train", every: int = 10, console: Console | None = None
    ) -> None:
        """Prepare the display.

        Args:
            num_steps: Optimiser steps in all.
            start: Steps that an earlier run has taken already.
            title: What is going on.
            every: Steps between lines where the console is no terminal.
            console: Where to; standard error by default.
        """
        self._num_steps, self._start, self._title, self._every = num_steps, start, title, every
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._began = time.monotonic()
        self._last: dict[str, float | int] = {}
        self._told: tuple[int, str] | None = None

    def __enter__(self) -> "RunProgress":
        self._began = time.monotonic()
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[status]}", markup=False),
            )
            self._bar = Progress(*columns, console=self._console, transient=False)
            self._task = self._bar.add_task(self._title, total=self._num_steps, completed=self._start, status="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, metrics: Mapping[str, float | int]) -> None:
        """Show that a step is done.

        Args:
            step: Optimiser steps taken.
            metrics: Of this step or of an evaluation; the last value of each is kept on display.
        """
        self._last |= metrics
        if self._bar is not None:
            self._bar.update(self._task, completed=step, status=self._status(step))
        elif (step % self._every == 0 or step == self._num_steps) and self._told != (step, self._numbers()):
            self._told = step, self._numbers()
            self.say(f"{self._title} {step}/{self._num_steps} {self._status(step)}")

    def say(self, text: str) -> None:
        """Write a line of our own or a model's text above the bar; nothing in it can steer the terminal."""
        self._console.print(Text(harmless(text)))

    def show_rollouts(self, prompts: Sequence[str], responses: Sequence[str]) -> None:
        """Write sample rollouts above the bar."""
        for prompt, response in zip(prompts, responses, strict=True):
            self.say(f"--- prompt\n{prompt}\n--- response\n{response}")

    def _status(self, step: int) -> str:
        done = step - self._start
        parts = []
        if done > 0 and step < self._num_steps:
            each = (time.monotonic() - self._began) / done
            parts.append(f"{duration(each * (self._num_steps - step))} left")
        if "train/tokens_per_second" in self._last:
            parts.append(f"{count(self._last['train/tokens_per_second'], 'token')}/s")
        return " · ".join([*parts, *([self._numbers()] if self._numbers() else [])])

    def _numbers(self) -> str:
        shown = [(describe(name), self._last[name]) for name in _SHOWN if name in self._last]
        return " · ".join(f"{metric.title.lower()} {value(metric, number)}" for metric, number in shown)

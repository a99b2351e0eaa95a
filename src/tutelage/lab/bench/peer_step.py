"""The peer's side of a bench of steps: TRL's trainer as it comes, halted between steps.

Two things are done to it from outside. Generation gets a logits processor, which TRL's settings have no place for, so that
each response ends where it was planned to; and the masks that enter the loss are looked at, to report their padding.
"""

import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor, LogitsProcessorList, TrainerCallback

from tutelage.lab.bench.channel import Channel
from tutelage.lab.bench.inputs import LEARNING_RATE, PROMPTS, STUDENT, TEACHER, planned_lengths
from tutelage.lab.bench.meter import Meter
from tutelage.lab.bench.settings import StepBench


@final
class EndAsPlanned(LogitsProcessor):
    """Leaves only the end of sequence at a row's planned last token, and forbids it before."""

    def __init__(self, lengths: list[int], *, prompt: int, end: int) -> None:
        """Plan a call.

        Args:
            lengths: Tokens of each row's response, its end included.
            prompt: Tokens of the padded prompts.
            end: Id of the end of sequence.
        """
        self._lengths, self._prompt, self._end = torch.tensor(lengths), prompt, end

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores of the next token."""
        last = self._lengths == input_ids.shape[1] - self._prompt + 1
        scores[:, self._end] = -torch.inf
        if bool(last.any()):
            scores[last] = -torch.inf
            scores[last, self._end] = 0.0
        return scores


@final
class _Masks:
    """What the step's micro-batches looked like."""

    def __init__(self, trainer: Any) -> None:
        self._compute = trainer._compute_loss
        self.lengths, self.useful, self.padded = list[int](), 0, 0
        trainer._compute_loss = self

    def __call__(self, student: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        masks = (inputs["prompt_mask"], inputs["completion_mask"])
        self.lengths += masks[1].sum(dim=1).tolist()
        self.useful += sum(int(mask.sum()) for mask in masks)
        self.padded += sum(mask.numel() for mask in masks)
        return self._compute(student, inputs, *rest)

    def take(self) -> tuple[list[int], float]:
        """Lengths of all responses and the share of real tokens since the last call."""
        found = self.lengths, self.useful / self.padded
        self.lengths, self.useful, self.padded = [], 0, 0
        return found


@final
class _Halts(TrainerCallback):
    """Waits before each optimiser step, and reports it after."""

    def __init__(self, settings: StepBench, channel: Channel) -> None:
        self._settings, self._channel, self._meter = settings, channel, Meter()
        self.masks: _Masks | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before the step's responses are written."""
        self._channel.wait()
        self._meter.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After the weights were updated."""
        reading = self._meter.stop()
        assert self.masks is not None
        written, share = self.masks.take()
        planned = planned_lengths(self._settings, state.global_step - 1)
        assert sorted(written) == sorted(planned), "a response missed its planned length"
        self._channel.send(asdict(reading) | {"tokens": sum(written), "useful_share": share})


def serve(settings: StepBench, folder: str, channel: Channel) -> None:
    """Take one step whenever asked, and report time, memory and padding."""
    halts = _Halts(settings, channel)
    trainer = _trainer(settings, Path(folder), halts)
    halts.masks = _Masks(trainer)
    channel.send({"ready": "peer"})
    trainer.train()
    channel.wait()


def _trainer(settings: StepBench, folder: Path, halts: _Halts) -> Any:
    trl: Any = import_module("trl")  # an optional package
    datasets: Any = import_module("datasets")
    tokenizer = AutoTokenizer.from_pretrained(folder / STUDENT, padding_side="left")
    student = AutoModelForCausalLM.from_pretrained(folder / STUDENT, dtype=torch.float32)
    teacher = AutoModelForCausalLM.from_pretrained(folder / TEACHER, dtype=torch.float32)
    _end_as_planned(student, settings, end=tokenizer.eos_token_id)
    prompts = [json.loads(line)["prompt"] for line in (folder / PROMPTS).read_text().splitlines()]
    return trl.DistillationTrainer(
        model=student,
        teacher_model=teacher,
        args=trl.DistillationConfig(
            output_dir=str(folder / "peer"),
            per_device_train_batch_size=settings.batch,
            gradient_accumulation_steps=settings.accumulation,
            max_steps=settings.pairs + 1,
            max_completion_length=max(settings.lengths()),
            temperature=1.0,
            beta=1.0,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            shuffle_dataset=False,  # prompts and their lengths in the order of the file, as on our side
            bf16=settings.dtype == "bfloat16",
            gradient_checkpointing=False,
            use_cpu=True,
            dataloader_pin_memory=False,
            seed=settings.seed,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset.from_dict({"prompt": prompts}),
        processing_class=tokenizer,
        callbacks=[halts],
    )


def _end_as_planned(student: Any, settings: StepBench, *, end: int) -> None:
    """Give every call of `generate` the lengths of its step; TRL makes one call per step, in the order of the data."""
    generate, calls = student.generate, iter(range(settings.pairs + 1))

    def planned(*, input_ids: Tensor, **rest: Any) -> Any:
        lengths = planned_lengths(settings, next(calls))
        ending = EndAsPlanned(lengths, prompt=input_ids.shape[1], end=end)
        return generate(input_ids=input_ids, logits_processor=LogitsProcessorList([ending]), **rest)

    student.generate = planned

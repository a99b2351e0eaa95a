"""On-policy distillation in one screen: every step of the loop, without the library's trainer.

    python examples/whole_loop.py --steps 150

A small random model teaches a smaller one. Nothing is downloaded. The library gives the parts: a sampler, the objective as a
value, and the fused head that turns hidden states into a loss. `tutelage.training` does the same with micro-batches,
checkpoints and everything else that a real run wants.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.models import LanguageModel, ModelSource, load
from tutelage.models.row_states import row_states
from tutelage.objectives import ReverseKL, Term, evaluate, plan
from tutelage.rollouts import CachedSampler
from tutelage.rollouts.sources import Sampling
from tutelage.types import Author, Example, FullSignal, Rollout, StepBatch

PROMPTS = ["a=", "b+a=", "c+b+a=", "a+a="]
OBJECTIVE = (Term(name="reverse_kl", signal=ReverseKL()),)
"""Swap the signal for ForwardKL(), JensenShannon(beta=0.5) or ScoreFunction() and you have another method."""


def main() -> None:
    """Distil, and print the reverse KL now and then."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150, help="optimiser steps")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for step, divergence in enumerate(distil(num_steps=arguments.steps, seed=arguments.seed)):
        if step % 25 == 0 or step == arguments.steps - 1:
            print(f"step {step:4d}   reverse KL {divergence:.3f} nats per token")


def distil(*, num_steps: int, seed: int) -> list[float]:
    """The reverse KL of every step, in nats per token of the student's own text."""
    student, teacher = models(seed)
    sampler = CachedSampler(student, vocab=student.vocab_size, stop_token_ids=student.stop_token_ids)
    optimiser = torch.optim.AdamW(student.trainable_parameters(), lr=3e-3)
    divergences: list[float] = []
    for step in range(num_steps):
        # 1. The student writes.
        rollouts = write(student, sampler, seed=seed + step, step=step)
        batch = StepBatch.of(rollouts, seed=seed, step=step)
        everybody = range(len(rollouts))
        prompts = [rollout.prompt_ids for rollout in rollouts]
        # 2. The teacher reads what was written; its distributions are kept as hidden states and a head.
        with torch.no_grad():
            signal = FullSignal(hidden=row_states(teacher, batch, everybody, prompts=prompts), head=teacher.head())
        # 3. The objective: coefficients first, then one pass through the head.
        hidden = row_states(student, batch, everybody, prompts=prompts)
        found = evaluate(
            plan(OBJECTIVE, batch, step=step), batch, hidden=hidden, head=student.head(), teachers={"teacher": signal}
        )
        # 4. One optimiser step.
        optimiser.zero_grad()
        found.loss.backward()
        optimiser.step()
        divergences.append(found.terms["reverse_kl"])
    return divergences


def models(seed: int) -> tuple[LanguageModel, LanguageModel]:
    """A student and a teacher with one tokenizer, made on the spot."""
    tokenizer = make_tokenizer("abc+=")
    with tempfile.TemporaryDirectory() as folder:
        small = make_model(Path(folder) / "student", tokenizer=tokenizer, shape=Shape(hidden=32), seed=seed)
        large = make_model(
            Path(folder) / "teacher", tokenizer=tokenizer, shape=Shape(hidden=64, initial_std=0.2), seed=seed + 1
        )
        return load(ModelSource(path=str(small)), role="student"), load(ModelSource(path=str(large)), role="teacher")


def write(student: LanguageModel, sampler: CachedSampler, *, seed: int, step: int) -> list[Rollout]:
    """Eight responses to each prompt, as they were sampled."""
    texts = [prompt for prompt in PROMPTS for _ in range(8)]
    ids = [student.tokenizer(text)["input_ids"] for text in texts]
    samples = sampler.sample(ids, Sampling(max_new_tokens=12), seed=seed)
    return [
        Rollout(
            example=Example(id=text, prompt=text),
            group=place // 8,
            prompt_ids=torch.tensor(prompt),
            response_ids=sample.token_ids,
            authors=torch.full_like(sample.token_ids, Author.STUDENT),
            behaviour_log_probs=sample.log_probs,
            finish=sample.finish,
            text=student.tokenizer.decode(sample.token_ids.tolist()),
            policy_step=step,
        )
        for place, (text, prompt, sample) in enumerate(zip(texts, ids, samples, strict=True))
    ]


if __name__ == "__main__":
    main()

"""What a run's checks say, and what student and teacher really do on a few prompts, without a step of training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from tutelage.rollouts import Prompt
from tutelage.rollouts.sources import Sampling
from tutelage.run.assembly import Assembled, assemble
from tutelage.run.config import RunConfig
from tutelage.run.measuring import Measurement, Ruler
from tutelage.run.preflight import PreflightReport
from tutelage.run.recipe_checks import response_limit
from tutelage.run.writing import write_alone
from tutelage.training.teaching import Teaching
from tutelage.types import Rollout

FORMAT_NATS = 3.0
"""A reverse KL of the first token above this, and far above the mean, is the mark of a different format."""
END_NATS = -5.0
"""Where the teacher gives every one of the student's ends so much less than the student does, the two may not end with the
same token; or a weak student stops too early everywhere."""
NUM_ENDS = 3
"""Ends that must have been seen before anything is said about them."""
GAP_NATS = 0.01
"""Sampler and trainer differ by far less than this in float32; the signal left to a good student is not much larger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What was found."""

    report: PreflightReport
    """Shared ids, stop ids, what was mended and said."""
    student_reads: str
    """The first prompt as the student reads it, special tokens included."""
    teacher_reads: str | None
    """The same as the teacher reads it; None without a teacher, or where it cannot be taught."""
    contexts: Mapping[str, int]
    """Why the teacher's context was or was not shown, counted over the prompts."""
    figures: Mapping[str, float]
    """Measured on responses that the student wrote; names carry their unit."""
    suspicions: tuple[str, ...]
    """What the figures suggest."""


def doctor(config: RunConfig, *, num_prompts: int = 8, max_new_tokens: int = 128) -> Diagnosis:
    """Assemble a run, let the student answer a few prompts and the teacher score them.

    Args:
        config: The run.
        num_prompts: Prompts that are answered, one response each at temperature 1.
        max_new_tokens: Longest response in tokens; the recipe's own limit where that is shorter.

    Raises:
        TutelageError: Whatever would have stopped the run before or in its first step.
    """
    run = assemble(replace(config, scores=None))  # what was never scored must be scored, and whole distributions are shown
    prompts = run.prompts[:num_prompts]
    sampling = Sampling(max_new_tokens=min(max_new_tokens, response_limit(config.recipe.rollouts)))
    source = config.recipe.rollouts
    writer = write_alone(source, sampling, sampler=run.sampler, text=run.text, seed=config.seed, aids=run.aids)
    rollouts = writer.write(prompts, step=0)
    ruler = Ruler(
        run.student,
        Teaching(run.teacher),
        vocab=run.report.vocab,
        microbatch_tokens=config.training.microbatch_tokens,
        chunk_mib=config.training.head_chunk_mib,
    )
    figures = figures_of(ruler(rollouts), rollouts)
    teacher_reads, contexts = _teacher_side(run, prompts)
    return Diagnosis(
        report=run.report,
        student_reads=run.student.tokenizer.decode(prompts[0].token_ids.tolist()),
        teacher_reads=teacher_reads,
        contexts=contexts,
        figures=figures,
        suspicions=suspicions_of(figures),
    )


def figures_of(measured: Measurement, rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Means over the tokens of some responses; what no token has is left out."""
    batch, found = measured.batch, measured.statistics
    lengths = torch.tensor([len(rollout.response_ids) for rollout in rollouts])
    finished = torch.tensor([rollout.finish == "stop" for rollout in rollouts])
    own, rows = batch.position.cpu(), batch.rollout.cpu()
    ends = finished[rows] & (own == lengths[rows] - 1)
    log_ratio = found["teacher_log_prob"].cpu() - found["student_log_prob"].cpu()
    gap = (found["student_log_prob"].cpu() - batch.behaviour_log_probs.cpu()).abs()
    everything = torch.ones_like(ends)
    means = {
        "reverse_kl_nats": _mean(found["reverse_kl_nats"].cpu(), everything),
        "forward_kl_nats": _mean(found["forward_kl_nats"].cpu(), everything),
        "first_token_reverse_kl_nats": _mean(found["reverse_kl_nats"].cpu(), own == 0),
        "best_end_log_ratio_nats": float(log_ratio[ends].max()) if ends.sum() >= NUM_ENDS else None,
        "student_entropy_nats": _mean(found["student_entropy_nats"].cpu(), everything),
        "teacher_entropy_nats": _mean(found["teacher_entropy_nats"].cpu(), everything),
        "sampler_gap_nats": _mean(gap, everything),
        "length_tokens": float(lengths.float().mean()),
        "truncated_fraction": 1.0 - float(finished.float().mean()),
    }
    return {name: value for name, value in means.items() if value is not None and value == value}


def suspicions_of(figures: Mapping[str, float]) -> tuple[str, ...]:
    """What figures suggest, one sentence each; nothing where they look sound."""
    found = list[str]()
    mean, first = figures.get("reverse_kl_nats"), figures.get("first_token_reverse_kl_nats")
    if mean is not None and first is not None and first > FORMAT_NATS and first > 4.0 * mean:
        found.append(
            f"The first token's reverse KL is {first:.2f} nats, the mean {mean:.2f}: the two sides probably expect different "
            "formats. Compare what they read."
        )
    if mean is not None and mean < 1e-6:
        found.append("Student and teacher say the same everywhere: there is nothing to learn from this teacher.")
    if (end := figures.get("best_end_log_ratio_nats")) is not None and end < END_NATS:
        found.append(
            f"Wherever the student ends a response, the teacher's log-probability is at least {-end:.1f} nats lower: either "
            "the teacher ends responses with another token, and would teach the student not to stop, or the student stops far "
            "too early. Watch the share of truncated responses."
        )
    if (gap := figures.get("sampler_gap_nats")) is not None and gap > GAP_NATS:
        found.append(
            f"Sampler and trainer differ by {gap:.4f} nats a token. Once the divergence falls to that size, a term that trusts "
            "the sampler's log-probabilities learns noise."
        )
    return tuple(found)


def _mean(values: Tensor, chosen: Bool[Tensor, " row"]) -> float | None:
    kept = values[chosen & values.isfinite()]
    return float(kept.mean()) if len(kept) else None


def _teacher_side(run: Assembled, prompts: Sequence[Prompt]) -> tuple[str | None, dict[str, int]]:
    if run.teacher is None:
        return None, {}
    read = [run.teacher.reading.prompt(prompt.example, read_by_student=prompt.token_ids) for prompt in prompts]
    first = read[0].token_ids
    text = None if first is None else run.teacher.reading.reader(prompts[0].example).tokenizer.decode(first.tolist())
    return text, dict(Counter(prompt.reason for prompt in read))

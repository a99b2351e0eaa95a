"""For `tasks.py`: the quantity that a task isolates, measured on its models at the held-out problems."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch

from tutelage.lab.tasks import Task, agent, forks, long, noisy_teacher
from tutelage.models import LanguageModel, ModelSource, load
from tutelage.rollouts import CachedSampler
from tutelage.rollouts.sources import Sampling
from tutelage.types import Author, Example, Rollout, Verdict
from tutelage.verifiers import build

Models = Mapping[str, Path]
TOP = 4
PREFIXES = (0, 37, 74, 148, 222)
SAMPLES = 16


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Writer:
    """A model that writes and reads text."""

    model: LanguageModel

    def write(self, texts: Sequence[str], *, temperature: float, limit: int) -> list[str]:
        """What it writes behind each text, up to its end token."""
        tokenizer = self.model.tokenizer
        sampler = CachedSampler(self.model, vocab=self.model.vocab_size, stop_token_ids=frozenset({tokenizer.eos_token_id}))
        ids = [tokenizer(text).input_ids for text in texts]
        samples = sampler.sample(ids, Sampling(temperature=temperature, max_new_tokens=limit), seed=0)
        return [tokenizer.decode(sample.token_ids.tolist(), skip_special_tokens=True) for sample in samples]

    @torch.no_grad()
    def log_probs(self, prompt: str, response: str) -> torch.Tensor:
        """Of every token at each character of a response, [time, vocab]."""
        ids = torch.tensor([self.model.tokenizer(prompt + response).input_ids])
        positions = torch.arange(ids.shape[1])[None]
        states = self.model.hidden_states(ids, torch.ones_like(ids), positions)
        return self.model.logits(states)[0, len(prompt) - 1 : -1].log_softmax(-1)

    def ids(self, text: str) -> torch.Tensor:
        """One per character."""
        return torch.tensor(self.model.tokenizer(text).input_ids)


def writer(folder: Path) -> Writer:
    return Writer(model=load(ModelSource(path=str(folder)), role="teacher"))


def judge(task: Task, examples: Sequence[Example], texts: Sequence[str]) -> list[Verdict]:
    return build(task.verifier).judge([_rollout(*pair) for pair in zip(examples, texts, strict=True)])


def accuracy(task: Task, examples: Sequence[Example], texts: Sequence[str]) -> float:
    return fmean(bool(verdict.correct) for verdict in judge(task, examples, texts))


def on_and_off_the_noisy_class(task: Task, models: Models, held_out: Sequence[Example]) -> dict[str, float]:
    """On right text: the probability of the right token and the entropy, at results of the class and at other results."""
    found: dict[str, float] = {}
    for role in ("teacher", "student", "distilled"):
        model, values = writer(models[role]), {True: list[tuple[float, float]](), False: list[tuple[float, float]]()}
        for example in held_out:
            text = str(example.solution)
            log_probs, ids = model.log_probs(str(example.prompt), text), model.ids(text)
            for place, marked in enumerate(noisy_teacher.unreliable(text)):
                if text[place - 1] == "=" and place:
                    row = log_probs[place]
                    values[marked].append((float(row[ids[place]].exp()), float(-(row.exp() * row).sum())))
        for marked, name in ((True, "on"), (False, "off")):
            found[f"{role}_right_{name}"] = fmean(right for right, _ in values[marked])
            found[f"{role}_entropy_{name}_nats"] = fmean(entropy for _, entropy in values[marked])
    return found


def overlap(task: Task, models: Models, held_out: Sequence[Example]) -> dict[str, float]:
    """What the teacher thinks of the student's own samples."""
    teacher, found = writer(models["teacher"]), dict[str, float]()
    for role in ("student", "distilled"):
        student, probabilities, shared = writer(models[role]), list[float](), list[float]()
        prompts = [str(example.prompt) for example in held_out]
        for prompt, text in zip(prompts, student.write(prompts, temperature=1.0, limit=task.max_response_tokens), strict=True):
            ours, theirs, ids = student.log_probs(prompt, text), teacher.log_probs(prompt, text), student.ids(text)
            probabilities += theirs.gather(-1, ids[:, None]).exp().flatten().tolist()
            tops = zip(ours.topk(TOP).indices.tolist(), theirs.topk(TOP).indices.tolist(), strict=True)
            shared += [len(set(one) & set(other)) / TOP for one, other in tops]
        found |= {f"{role}_probability_under_teacher": fmean(probabilities), f"{role}_top_{TOP}_overlap": fmean(shared)}
    return found


def by_prefix(task: Task, models: Models, held_out: Sequence[Example]) -> dict[str, float]:
    """How often the teacher ends well what the student began, by the number of the student's tokens."""
    teacher, student, found = writer(models["teacher"]), writer(models["student"]), dict[str, float]()
    prompts = [str(example.prompt) for example in held_out]
    texts = student.write(prompts, temperature=1.0, limit=task.max_response_tokens)
    for tokens in PREFIXES:
        begun = [text[:tokens] for text in texts]
        starts = [prompt + text for prompt, text in zip(prompts, begun, strict=True)]
        rest = teacher.write(starts, temperature=0.0, limit=task.max_response_tokens - tokens)
        found[f"after_{tokens}_tokens"] = accuracy(task, held_out, [a + b for a, b in zip(begun, rest, strict=True)])
    right = [str(example.solution) for example in held_out]
    same = [[a == b for a, b in zip(text, truth, strict=False)] for text, truth in zip(texts, right, strict=True)]
    found["student_share_of_tokens_as_in_solution"] = fmean(flag for flags in same for flag in flags)
    found["num_tokens"] = float(len(long.ROWS) * (long.WIDTH + 1))
    return found


def coverage(task: Task, models: Models, held_out: Sequence[Example]) -> dict[str, float]:
    """Different right responses among samples, of at most 24; and the teacher's entropy at forks and elsewhere."""
    found, chosen = dict[str, float](), held_out[:48]
    prompts = [str(example.prompt) for example in chosen for _ in range(SAMPLES)]
    for role in ("teacher", "student", "distilled"):
        texts = writer(models[role]).write(prompts, temperature=1.0, limit=task.max_response_tokens)
        right = [
            set(texts[place * SAMPLES : (place + 1) * SAMPLES]) & forks.right_responses(str(example.prompt))
            for place, example in enumerate(chosen)
        ]
        found[f"{role}_different_right_of_{SAMPLES}"] = fmean(map(len, right))
    teacher, entropies = writer(models["teacher"]), {True: list[float](), False: list[float]()}
    for example in chosen:
        log_probs = teacher.log_probs(str(example.prompt), str(example.solution))
        for row, fork in zip(log_probs, forks.at_forks(str(example.solution)), strict=True):
            entropies[fork].append(float(-(row.exp() * row).sum()))
    return found | {"entropy_at_forks_nats": fmean(entropies[True]), "entropy_elsewhere_nats": fmean(entropies[False])}


def gap_of_feedback(task: Task, models: Models, held_out: Sequence[Example]) -> dict[str, float]:
    """The student alone, and on problems where it failed what it does with the verifier's words or with a right response."""
    student, limit = writer(models["student"]), task.max_response_tokens
    alone = student.write([str(example.prompt) for example in held_out], temperature=0.0, limit=limit)
    verdicts = judge(task, held_out, alone)
    failed = [(example, str(v.feedback)) for example, v in zip(held_out, verdicts, strict=True) if not v.correct]
    examples = [example for example, _ in failed]
    found = {"alone": fmean(bool(verdict.correct) for verdict in verdicts), "failed": float(len(failed))}
    for name, contexts in (("feedback", [said for _, said in failed]), ("peer", [str(e.solution) for e in examples])):
        behind = [task.context_template.format(context=c, prompt=e.prompt) for c, e in zip(contexts, examples, strict=True)]
        texts = student.write(behind, temperature=0.0, limit=limit)
        found[f"failed_then_with_{name}"] = accuracy(task, examples, texts)
        repaired = [said in text for text, (_, said) in zip(texts, failed, strict=True)]
        found[f"first_wrong_step_repaired_with_{name}"] = fmean(repaired)
    return found


def gap_of_privilege(task: Task, models: Models, held_out: Sequence[Example]) -> dict[str, float]:
    """The student alone and with the context, by kind of problem."""
    student, found = writer(models["student"]), dict[str, float]()
    assert task.slices is not None
    for kind in sorted(set(map(task.slices, held_out))):
        examples = [example for example in held_out if task.slices(example) == kind]
        plain = [str(example.prompt) for example in examples]
        for name in ("alone", "privileged_context", "solution"):
            behind = (
                plain
                if name == "alone"
                else [task.context_template.format(context=getattr(e, name), prompt=e.prompt) for e in examples]
            )
            texts = student.write(behind, temperature=0.0, limit=task.max_response_tokens)
            found[f"{kind}: {name}"] = accuracy(task, examples, texts)
    return found


def lost_to_format(task: Task, models: Models, held_out: Sequence[Example]) -> dict[str, float]:
    """Of the responses with the right value, the share that breaks the contract."""
    found: dict[str, float] = {}
    for role in ("teacher", "student", "distilled"):
        texts = writer(models[role]).write(
            [str(example.prompt) for example in held_out], temperature=1.0, limit=task.max_response_tokens
        )
        right = [verdict.marks["contract"] for verdict in judge(task, held_out, texts) if verdict.marks["value"]]
        found[f"{role}_value_right"] = len(right) / len(held_out)
        found[f"{role}_right_values_lost"] = 1.0 - fmean(right) if right else 0.0
    return found


def in_the_world(task: Task, models: Models, held_out: Sequence[Example]) -> dict[str, float]:
    """Accuracy and number of turns in dialogue with the world, greedy."""
    found: dict[str, float] = {}
    for role, folder in models.items():
        model, turns = writer(folder), [list[str]() for _ in held_out]
        said, texts, going = [str(example.prompt) for example in held_out], [""] * len(held_out), list(range(len(held_out)))
        while going:
            written = model.write([said[place] for place in going], temperature=0.0, limit=8)
            for place, turn in zip(list(going), written, strict=True):
                turns[place].append(turn)
                reply = agent.world(held_out[place], turns[place])
                texts[place] += turn + (reply or "")
                said[place] += f"{turn}{model.model.tokenizer.eos_token}{reply or ''}"
                if reply is None:
                    going.remove(place)
        found |= {f"{role}_accuracy": accuracy(task, held_out, texts), f"{role}_turns": fmean(map(len, turns))}
    return found


def _rollout(example: Example, text: str) -> Rollout:
    nothing = torch.zeros(0, dtype=torch.long)
    return Rollout(
        example=example,
        group=0,
        prompt_ids=nothing,
        response_ids=nothing,
        authors=torch.full_like(nothing, Author.STUDENT),
        behaviour_log_probs=torch.zeros(0),
        finish="stop",
        text=text,
    )


SPECIAL = {
    "noisy_teacher": on_and_off_the_noisy_class,
    "mismatch": overlap,
    "long": by_prefix,
    "forks": coverage,
    "feedback": gap_of_feedback,
    "privileged": gap_of_privilege,
    "format": lost_to_format,
    "agent": in_the_world,
}

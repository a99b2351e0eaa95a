"""A teacher behind a server: from the rollouts of a step to the log-probs that it gives their tokens."""

from collections.abc import Collection, Mapping, Sequence
from math import log
from typing import Any, final

import torch

from tutelage.errors import ServerError, TeacherError
from tutelage.models.language_model import LanguageModel
from tutelage.serving import VLLM, Scores, Transport
from tutelage.serving.agreement import canary_ids, require_same_tokenizer
from tutelage.teachers.parts import ServedTeacher
from tutelage.teachers.reading import Reading, Render
from tutelage.teachers.scorer import Scored
from tutelage.types import Capability, SampledSignal, StepBatch, TopKSignal


def connect(part: ServedTeacher) -> VLLM:
    """The served teacher's client.

    Raises:
        ConfigError: The part names no server.
        ServerError: The server does not answer, or serves another model.
    """
    transport = Transport(part.url, patience=part.patience, key_variable=part.key_variable)
    return VLLM(transport, name=part.name, sequences=part.patience.sequences)


@final
class Served:
    """Scores the tokens of a step on a server, from exactly the ids that were sampled."""

    def __init__(self, part: ServedTeacher, client: VLLM, *, reader: LanguageModel, render: Render | None, vocab: int) -> None:
        """Ask the server a few questions whose answers must agree, before anything is trained on its answers.

        Args:
            part: The choice.
            client: Of its server.
            reader: The served model's tokenizer and shape.
            render: The teacher's side of a prompt; none reads the ids that the student read, as they are.
            vocab: Ids that student and teacher share.

        Raises:
            PreflightError: Server and folder have different tokenizers.
            ServerError: Answers about the same tokens differ by more than rounding, or the server gives none.
        """
        self.client, self._reader, self._k, self._vocab = client, reader, part.k, vocab
        self.reading = Reading(reader, context=part.context, render=render)
        require_same_tokenizer(client, reader.tokenizer, name=reader.name, option="--recipe.teacher.model")
        asked = canary_ids(reader.tokenizer, vocab=vocab, most=client.max_scored_tokens)
        self._canary, self.replica_gap_nats = client.self_test(asked, k=part.k, tolerance_nats=part.tolerance_nats)

    @property
    def provides(self) -> frozenset[Capability]:
        """The sampled token and, where any are asked for, the likeliest entries."""
        return TopKSignal.provides if self._k else SampledSignal.provides

    @property
    def model(self) -> LanguageModel:
        """The served model's tokenizer and shape; its weights are not here."""
        return self._reader

    @torch.no_grad()
    def score(self, batch: StepBatch, *, only: Collection[int] | None = None) -> Scored:
        """What the server says at every row of a step.

        Args:
            batch: The step.
            only: Indices of the rollouts that are asked about, where it is not all of them; the others count as not taught.

        Raises:
            TeacherError: Not one rollout can be taught although the context lies in the data; or the teacher's likeliest
                entries lie outside of the ids that both sides share.
            ServerError: The server fails, gives a reply that is not what was asked for, or is no longer the same one.
        """
        prompts = self.reading.prompts(batch)
        readable = self.reading.readable(prompts, only)
        sequences = [[*ids.tolist(), *batch.rollouts[index].response_ids.tolist()] for index, ids in readable.items()]
        first = [len(ids) for ids in readable.values()]
        found = self.client.score(sequences, first=first, k=self._k, canary=self._canary)
        taught = torch.zeros(len(prompts), dtype=torch.bool, device=batch.rollout.device)
        taught[list(readable)] = True
        return Scored(
            signal=self._signal(batch, list(readable), found),
            rows_taught=taught[batch.rollout],
            reasons=tuple(prompt.reason for prompt in prompts),
        )

    def figures(self) -> Mapping[str, float]:
        """Metrics of the answers so far."""
        return {"serving/teacher_gap_nats": max(self.replica_gap_nats, self.client.canary_gap_nats)}

    def update(self, student: LanguageModel) -> None:
        """A served teacher stays as it is."""

    def state_dict(self) -> dict[str, Any]:
        """What the server answered, by which a resumed run knows it again."""
        return {"token_ids": list(self._canary.token_ids), "log_probs": self._canary.expected}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare with what the server answered when the run was saved.

        Raises:
            ServerError: Other weights stand behind the address now.
        """
        if list(state["token_ids"]) != list(self._canary.token_ids):
            raise ServerError("The saved run asked its teacher about other tokens: its tokenizer was another one.")
        self._canary.require(state["log_probs"], model=self.client.name)

    def _signal(self, batch: StepBatch, asked: Sequence[int], found: Sequence[Scores]) -> TopKSignal | SampledSignal:
        rows, device = batch.num_rows, batch.token.device
        sampled = torch.zeros(rows)
        # Where nobody is taught the entries are any ids with the same small mass, so that no sum over them overflows.
        ids = torch.arange(self._k).repeat(rows, 1)
        log_probs = torch.full((rows, self._k), -log(max(self._vocab, 1)))
        for index, scores in zip(asked, found, strict=True):
            own = batch.rows_of([index]).cpu()
            places = batch.position[own.to(device)].cpu()
            sampled[own] = scores.sampled[places]
            ids[own], log_probs[own] = scores.top_ids[places], scores.top_log_probs[places]
        if self._k == 0:
            return SampledSignal(sampled=sampled.to(device))
        if int(ids.max()) >= self._vocab:
            raise TeacherError(
                f"Among the {self._k} likeliest entries of the served teacher is {int(ids.max())}, which lies outside of the "
                f"{self._vocab} ids that student and teacher share: rows of its head that no token uses have mass. Ask for a "
                "smaller recipe.teacher.k, or load the teacher in process, where its head is cut."
            )
        return TopKSignal(ids=ids.to(device), log_probs=log_probs.to(device), sampled=sampled.to(device))

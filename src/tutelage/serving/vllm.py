"""A client of `vllm serve`: token ids in, ids and log-probs out. The server is a stock one; nothing of it is imported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from tutelage.errors import ServerError
from tutelage.serving.replies import Completion, Scores, choices_of, completion_of, scores_of
from tutelage.serving.transport import Refused, Transport

__all__ = ["VLLM", "Canary", "Completion", "Drawing", "Scores"]

_PLAIN: Mapping[str, Any] = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Said in every request: what is left out the server takes from the model's generation_config.json."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """How tokens are drawn."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    """Ids that end a response, and no others: the server's own end of sequence is switched off."""
    vocab: int
    """Ids that may be drawn are below."""
    rows: int
    """Rows of the model's head; those from `vocab` on are kept from being drawn."""

    @property
    def plain(self) -> bool:
        """Whether tokens are drawn from the model's own distribution."""
        return (self.temperature, self.top_p, self.top_k, self.rows) == (1.0, 1.0, 0, self.vocab)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Canary:
    """A few tokens whose log-probs are known, sent along to see that whoever answers still is who it was."""

    token_ids: tuple[int, ...]
    expected: Float[Tensor, " time"]
    """Of the tokens from the second on, in nats."""
    tolerance_nats: float
    """Mean distance that is put down to rounding."""

    def gap(self, found: Float[Tensor, " time"]) -> float:
        """Mean distance in nats."""
        return float((found - self.expected).abs().mean())

    def require(self, found: Float[Tensor, " time"], *, model: str) -> None:
        """Refuse an answer from other weights.

        Raises:
            ServerError: The distance is beyond the tolerance.
        """
        if (gap := self.gap(found)) > self.tolerance_nats:
            raise ServerError(
                f"The weights behind {model!r} are not those that answered before: the log-probs of the same tokens differ by "
                f"{gap:.4f} nats on average, and {self.tolerance_nats} are tolerated. Was the server started again with "
                "another model, or is one of several replicas another one? Nothing was trained on this answer. Put the first "
                "model back and resume the run, or start a new one."
            )


@final
class VLLM:
    """One model behind one address."""

    def __init__(self, transport: Transport, *, name: str = "", sequences: int = 8) -> None:
        """Ask the server what it serves.

        Args:
            transport: To the server.
            name: The model's name there; empty takes the only one.
            sequences: In one scoring request.

        Raises:
            ServerError: The server does not answer, or does not serve that model.
        """
        self._transport, self._sequences = transport, sequences
        card = _card(transport, name)
        self.name: str = card["id"]
        self.max_model_len = int(card["max_model_len"])
        self.max_scored_tokens = self.max_model_len - 1
        """Longest sequence that can be scored: the server draws one more token."""
        self.canary_gap_nats = 0.0
        """Largest mean distance between what a canary expected and what was answered, so far."""

    def score(
        self, sequences: Sequence[Sequence[int]], *, first: Sequence[int], k: int, canary: Canary | None = None
    ) -> list[Scores]:
        """Log-probs of the tokens of some sequences.

        Args:
            sequences: Ids, each no longer than `max_scored_tokens`.
            first: For each the index of the first token that is asked about.
            k: Likeliest entries in the place of each token; 0 asks for none.
            canary: Sent along in every request, so that each answer carries the proof of who gave it.

        Raises:
            ServerError: The server fails, refuses, gives a reply that is not what was asked for, or fails the canary.
        """
        leading = [] if canary is None else [canary.token_ids]
        groups = [
            range(start, min(start + self._sequences, len(sequences))) for start in range(0, len(sequences), self._sequences)
        ]
        bodies = [self._scoring([*leading, *(sequences[index] for index in group)], k) for group in groups]

        def read(place: int, reply: Any) -> list[Scores]:
            prompts = bodies[place]["prompt"]
            choices = choices_of(reply, prompts=prompts, model=self.name)
            if canary is not None:
                own = scores_of(choices[0], prompt=prompts[0], first=1, k=0, model=self.name)
                canary.require(own.sampled, model=self.name)
                self.canary_gap_nats = max(self.canary_gap_nats, canary.gap(own.sampled))
            return [
                scores_of(choice, prompt=sequences[index], first=first[index], k=k, model=self.name)
                for index, choice in zip(groups[place], choices[len(leading) :], strict=True)
            ]

        try:
            return [scores for part in self._transport.each("/v1/completions", bodies, read) for scores in part]
        except Refused as refusal:
            raise self._explained(refusal, k=k) from refusal

    def sample(
        self, prompts: Sequence[Sequence[int]], drawing: Drawing, *, seeds: Sequence[int], limits: Sequence[int]
    ) -> list[Completion]:
        """One response for each prompt, a request each because each has a seed of its own.

        Args:
            prompts: Ids.
            drawing: How tokens are drawn.
            seeds: Below 2^31.
            limits: Longest response for each, at least 1.

        Raises:
            ServerError: The server fails, refuses, or gives a reply that is not what was asked for.
        """
        bodies = [
            self._drawing(prompt, drawing, seed=seed, limit=limit)
            for prompt, seed, limit in zip(prompts, seeds, limits, strict=True)
        ]

        def read(place: int, reply: Any) -> Completion:
            choice = choices_of(reply, prompts=[prompts[place]], model=self.name)[0]
            stops = drawing.stop_token_ids
            return completion_of(choice, limit=limits[place], vocab=drawing.vocab, stops=stops, model=self.name)

        try:
            return self._transport.each("/v1/completions", bodies, read)
        except Refused as refusal:
            raise self._explained(refusal, k=0) from refusal

    def self_test(self, token_ids: Sequence[int], *, k: int, tolerance_nats: float, tries: int = 6) -> tuple[Canary, float]:
        """Ask about the same tokens several times, all at once so that replicas share them.

        Args:
            token_ids: At least two.
            k: Entries that will be asked for: the server's bound on them shows here and not in the first step.
            tolerance_nats: Mean distance between answers that is put down to rounding.
            tries: How often.

        Returns:
            The canary of what was answered, and the largest mean distance between two answers in nats.

        Raises:
            ServerError: Answers differ by more than that, or the server gives no such answers.
        """
        body = self._scoring([list(token_ids)], k)

        def read(place: int, reply: Any) -> Tensor:
            choice = choices_of(reply, prompts=body["prompt"], model=self.name)[0]
            return scores_of(choice, prompt=token_ids, first=1, k=k, model=self.name).sampled

        try:
            answers = self._transport.each("/v1/completions", [body] * tries, read)
        except Refused as refusal:
            raise self._explained(refusal, k=k) from refusal
        gap = max(float((one - other).abs().mean()) for one in answers for other in answers)
        if gap > tolerance_nats:
            raise ServerError(
                f"{self.name!r} was asked about the same {len(token_ids)} tokens {tries} times, and its answers differ by up "
                f"to {gap:.4f} nats a token ({tolerance_nats} are tolerated). Replicas with different weights, types or "
                "versions stand behind this address, and their differences would be taught. Ask a single replica, make them "
                "equal, or raise the tolerance where this is rounding."
            )
        return Canary(token_ids=tuple(token_ids), expected=answers[0], tolerance_nats=tolerance_nats), gap

    def reports_processed(self, token_ids: Sequence[int]) -> bool:
        """Whether log-probs of drawn tokens are those of the distribution after temperature, top-k and top-p.

        Only one token can be drawn with top-k 1: its log-probability is 0 after and below 0 before.
        """
        drawing = Drawing(top_k=1, vocab=2**31, rows=2**31)
        found = self.sample([token_ids], drawing, seeds=[0], limits=[1])[0]
        return float(found.log_probs[0]) > -1e-6

    def tokenize(self, text: str) -> list[int] | None:
        """Ids of a text without special tokens; None where the server does not tokenize for others.

        Raises:
            ServerError: The server fails.
        """
        try:
            reply = self._transport.post("/tokenize", {"model": self.name, "prompt": text, "add_special_tokens": False})
        except Refused:
            return None
        return reply.get("tokens") if isinstance(reply, dict) else None

    def _scoring(self, prompts: Sequence[Sequence[int]], k: int) -> dict[str, Any]:
        return {
            "model": self.name,
            "prompt": [list(prompt) for prompt in prompts],
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": k,
            "return_token_ids": True,
            **_PLAIN,
        }

    def _drawing(self, prompt: Sequence[int], drawing: Drawing, *, seed: int, limit: int) -> dict[str, Any]:
        padding = {str(index): -100.0 for index in range(drawing.vocab, drawing.rows)}
        return {
            "model": self.name,
            "prompt": [list(prompt)],
            "max_tokens": limit,
            **_PLAIN,
            "temperature": drawing.temperature,
            "top_p": drawing.top_p,
            "top_k": drawing.top_k,
            "seed": seed,
            "logprobs": 0,
            "return_token_ids": True,
            "ignore_eos": True,
            "stop_token_ids": sorted(drawing.stop_token_ids),
            **({"logit_bias": padding} if padding else {}),
        }

    def _explained(self, refusal: Refused, *, k: int) -> ServerError:
        """The server's refusal with what to do about it."""
        words = refusal.reason
        if "logprobs" in words and "max allowed" in words:
            return ServerError(
                f"{self.name!r} gives fewer than the {k} likeliest entries that are asked for: {words}. Start the server with "
                f"--max-logprobs {k}, or ask for fewer (--recipe.teacher.k)."
            )
        if any(part in words for part in ("context length", "maximum model length", "max_tokens must be at least 1")):
            return ServerError(
                f"{self.name!r} cannot read a sequence that long: {words}. Start the server with a larger --max-model-len, or "
                "shorten prompts and responses."
            )
        if "out of vocabulary" in words:
            return ServerError(
                f"{self.name!r} does not know a token that it was sent: {words}. It serves a model with another tokenizer than "
                "the one that was named; name the served model's own folder."
            )
        return ServerError(f"{refusal} Look into the server's log for what it expected.")


def _card(transport: Transport, name: str) -> Mapping[str, Any]:
    reply = transport.get("/v1/models")
    cards = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(cards, list) or not cards or not all(isinstance(card, dict) for card in cards):
        raise ServerError(f"{transport.url}/v1/models lists no models: {str(reply)[:200]}. Is it the address of vllm serve?")
    names = [card.get("id") for card in cards]
    chosen = next((card for card in cards if card.get("id") == name), cards[0] if not name and len(cards) == 1 else None)
    if chosen is None:
        wanted = f"the model {name!r}" if name else "one model"
        raise ServerError(
            f"{transport.url} should serve {wanted}, and it serves {', '.join(map(repr, names))}. Name one of these, or mend "
            "the address."
        )
    if not isinstance(chosen.get("max_model_len"), int):
        raise ServerError(
            f"{transport.url} does not say how long a sequence {chosen.get('id')!r} reads (max_model_len), as vllm serve does. "
            "Token-level teachers and samplers need vLLM; another endpoint can only give text."
        )
    return chosen

"""One optimiser step: how a step is cut into micro-batches, ordered or measured changes nothing."""

from dataclasses import replace

import pytest
import torch
from tests.pairs import RECIPES, Pair, make_pair

from tutelage.errors import NumericsError
from tutelage.models import LanguageModel
from tutelage.objectives import Importance, NoRatio, ReverseKL, ScoreFunction, Term
from tutelage.objectives.fused import Budget
from tutelage.run.assembly import Assembled, assemble, prompt_order
from tutelage.training.learner import Learner, Update
from tutelage.training.measuring import measure_step
from tutelage.training.settings import TrainingSettings
from tutelage.types import StepBatch
from tutelage.weighting import EntropyAbove


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def built(pair: Pair, name: str, **changes: object) -> tuple[Assembled, StepBatch]:
    """The parts of a run and its first batch."""
    config = pair.config(name, pair.data.parent / "unused", **changes)
    parts = assemble(config)
    rollouts = parts.writer.write(prompt_order(config, parts)(0), step=0)
    return parts, StepBatch.of(rollouts, seed=0, step=0)


def updated(pair: Pair, name: str, *, reverse: bool = False, **settings: object) -> tuple[Update, dict[str, torch.Tensor]]:
    """The first step of a method, and the student's weights after it."""
    training = replace(TrainingSettings(num_steps=4, prompts_per_step=4), **settings)
    parts, batch = built(pair, name, training=training)
    if reverse:
        noise = batch.noise
        batch = StepBatch.of(tuple(reversed(batch.rollouts)), seed=0, step=0)
        batch = replace(batch, noise=torch.cat(list(reversed(noise.split(_row_counts(batch)[::-1])))))
    taught = parts.teaching.score(batch)
    update = parts.learner.update(taught.batch, taught.signals, step=0, statistics=True)
    return update, {name: value.clone() for name, value in parts.student.trainable_state().items()}


def _row_counts(batch: StepBatch) -> list[int]:
    return torch.bincount(batch.rollout, minlength=len(batch.rollouts)).tolist()


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("tokens", [1, 40])
def test_splitting_a_step_changes_neither_loss_nor_gradient_nor_statistics(pair, name, tokens):
    whole, _ = updated(pair, name, microbatch_tokens=100_000)
    split, _ = updated(pair, name, microbatch_tokens=tokens)
    assert split.loss == pytest.approx(whole.loss, rel=1e-5, abs=1e-7)
    assert split.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-5)
    assert split.weights == pytest.approx(whole.weights)
    for key, values in whole.statistics.items():
        torch.testing.assert_close(split.statistics[key], values, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", RECIPES)
def test_the_order_of_the_rollouts_changes_nothing(pair, name):
    forward, _ = updated(pair, name)
    backward, _ = updated(pair, name, reverse=True)
    assert backward.loss == pytest.approx(forward.loss, rel=1e-5, abs=1e-7)
    assert backward.gradient_norm == pytest.approx(forward.gradient_norm, rel=1e-5)


def test_gradient_checkpointing_changes_nothing(pair):
    plain, weights = updated(pair, "gkd")
    saving, others = updated(pair, "gkd", gradient_checkpointing=True)
    assert saving.loss == plain.loss
    assert all(torch.allclose(weights[key], others[key], atol=1e-6) for key in weights)


def test_reduced_precision_comes_near_full_precision_and_keeps_the_weights_in_float32(pair):
    full, _ = updated(pair, "gkd")
    reduced, weights = updated(pair, "gkd", precision="bfloat16")
    assert reduced.loss == pytest.approx(full.loss, rel=0.05)
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_a_weight_over_the_whole_step_does_not_depend_on_the_split(pair):
    parts, batch = built(pair, "gkd")
    batch = StepBatch.of(batch.rollouts)
    losses = []
    for tokens in (1, 100_000):
        learner = Learner(
            parts.student,
            terms=[Term(name="kl", signal=ReverseKL(), weights=(EntropyAbove(quantile=0.5),), on=("student", "dataset"))],
            temperatures=parts.learner.temperatures,
            vocab=parts.report.vocab,
            optimiser=replace(pair.config("gkd", pair.data).optimiser, learning_rate=1e-12),
            training=TrainingSettings(microbatch_tokens=tokens),
        )
        taught = parts.teaching.score(batch)
        losses.append(learner.update(taught.batch, taught.signals, step=0))
    assert losses[0].loss == pytest.approx(losses[1].loss, rel=1e-5)
    assert losses[0].weights == losses[1].weights


def test_a_step_that_fails_leaves_the_weights_as_they_were(pair):
    parts, batch = built(pair, "opd")
    taught = parts.teaching.score(batch)
    before = {key: value.clone() for key, value in parts.student.trainable_state().items()}
    broken = replace(taught.batch, behaviour_log_probs=torch.full_like(taught.batch.behaviour_log_probs, torch.nan))
    with pytest.raises(NumericsError, match="rollout 0"):
        parts.learner.update(broken, taught.signals, step=0)
    assert all(torch.equal(before[key], value) for key, value in parts.student.trainable_state().items())
    assert all(parameter.grad is None for parameter in parts.student.trainable_parameters())


def test_the_update_follows_the_direction_of_plain_autograd(pair):
    """One step of AdamW from the dense loss of the same batch, written with ordinary logits."""
    parts, batch = built(pair, "gkd")
    twin = parts.student.clone_frozen()
    for parameter in twin.model.parameters():
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(twin.model.parameters(), lr=1e-2 / 2, betas=(0.9, 0.95), weight_decay=0.0)
    values = []
    for rollout in batch.rollouts:
        ids = torch.cat([rollout.prompt_ids, rollout.response_ids]).unsqueeze(0)
        rows = slice(len(rollout.prompt_ids) - 1, ids.shape[1] - 1)
        student = twin.model(ids).logits[0, rows].log_softmax(-1)
        teacher = parts.teacher.model.model(ids).logits[0, rows].log_softmax(-1).detach()
        mixture = ((student.exp() + teacher.exp()) / 2).log()
        values.append(0.5 * (teacher.exp() * (teacher - mixture) + student.exp() * (student - mixture)).sum(-1))
    loss = torch.cat(values).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(twin.model.parameters(), 1.0)
    optimiser.step()
    taught = parts.teaching.score(batch)
    update = parts.learner.update(taught.batch, taught.signals, step=0)
    assert update.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    ours = dict(parts.student.model.named_parameters())
    for key, parameter in twin.model.named_parameters():
        torch.testing.assert_close(ours[key], parameter, rtol=1e-3, atol=2e-5)


def test_measured_statistics_are_those_of_the_step(pair):
    parts, batch = built(pair, "gkd")
    taught = parts.teaching.score(batch)
    measured = measure_step(
        parts.student, taught.batch, taught.signals, vocab=parts.report.vocab, budget_tokens=30, budget=Budget()
    )
    update = parts.learner.update(taught.batch, taught.signals, step=0, statistics=True)
    assert set(update.statistics) == {*measured, "token_weight"}
    for key, values in measured.items():
        torch.testing.assert_close(update.statistics[key], values, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_a_score_function_without_importance_has_the_same_first_step(pair):
    parts, batch = built(pair, "opd")
    taught = parts.teaching.score(batch)
    norms = []
    for ratio in (Importance(), NoRatio()):
        learner = Learner(
            parts.student,
            terms=[Term(name="pg", signal=ScoreFunction(ratio=ratio))],
            temperatures=parts.learner.temperatures,
            vocab=parts.report.vocab,
            optimiser=replace(pair.config("opd", pair.data).optimiser, learning_rate=1e-12),
            training=TrainingSettings(),
        )
        norms.append(learner.update(taught.batch, taught.signals, step=0).gradient_norm)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_a_head_in_bfloat16_on_a_cpu_changes_the_gradient_by_its_precision_only(pair):
    parts, batch = built(pair, "gkd")
    taught = parts.teaching.score(batch)
    updates = [
        Learner(
            parts.student,
            terms=[Term(name="loss", signal=ReverseKL())],
            temperatures=parts.learner.temperatures,
            vocab=parts.report.vocab,
            optimiser=replace(pair.config("gkd", pair.data).optimiser, learning_rate=1e-12),
            training=TrainingSettings(head_precision=precision),
        ).update(taught.batch, taught.signals, step=0)
        for precision in ("auto", "bfloat16")
    ]
    assert updates[0].loss != updates[1].loss
    assert updates[1].loss == pytest.approx(updates[0].loss, rel=0.02)
    assert updates[1].gradient_norm == pytest.approx(updates[0].gradient_norm, rel=0.02)


@pytest.mark.parametrize(("microbatch_tokens", "passes"), [(16384, 1), (40, 2)])
def test_a_step_that_fits_is_run_forward_once_for_both_phases_and_a_larger_one_twice(
    pair, monkeypatch, microbatch_tokens, passes
):
    parts, batch = built(pair, "opd")
    taught = parts.teaching.score(batch)
    read: list[int] = []
    whole = LanguageModel.hidden_states

    def counted(self, input_ids, *others):
        read.append(input_ids.shape[0])
        return whole(self, input_ids, *others)

    monkeypatch.setattr(LanguageModel, "hidden_states", counted)

    def step(budget: int) -> Update:
        return Learner(
            parts.student,
            terms=[Term(name="loss", signal=ReverseKL(), weights=(EntropyAbove(quantile=0.5),))],
            temperatures=parts.learner.temperatures,
            vocab=parts.report.vocab,
            optimiser=replace(pair.config("gkd", pair.data).optimiser, learning_rate=1e-12),
            training=TrainingSettings(microbatch_tokens=budget),
        ).update(taught.batch, taught.signals, step=0)

    update = step(microbatch_tokens)
    assert sum(read) == passes * len(batch.rollouts)
    assert update.weights["loss"] == pytest.approx(0.5, abs=0.1)
    other = step(64)
    assert update.loss == pytest.approx(other.loss, rel=1e-5)
    assert update.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-4)

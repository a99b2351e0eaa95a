from dataclasses import replace
from math import exp, log

import pytest
import torch
from safetensors.torch import load_file
from tests.pairs import Pair, make_pair

import dense
from tutelage.errors import ConfigError, DataError
from tutelage.lab.exact import Size, make, moments
from tutelage.objectives import LogRatio, SampledKL, ScoreFunction, Term
from tutelage.recipes import Recipe, opd
from tutelage.recipes.replay import f_opd
from tutelage.rollouts.sources import BufferedRollouts, StudentRollouts
from tutelage.run import api
from tutelage.run.assembly import Assembled, assemble, prompt_order
from tutelage.types import Rollout, StepBatch
from tutelage.weighting import Freshness


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def built(models: Pair, folder, recipe: Recipe) -> Assembled:
    return assemble(models.config("f_opd", folder, recipe=recipe, evaluation_data=None))


def small(models: Pair, **knobs) -> Recipe:
    return f_opd(str(models.teacher), **{"n": 2, "max_new_tokens": 6, **knobs})


def moved(found: Assembled) -> None:
    """Another student, as after a step."""
    with torch.no_grad():
        for parameter in found.student.trainable_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def same(one: list[Rollout], other: list[Rollout]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.response_ids, b.response_ids)
        and torch.equal(a.behaviour_log_probs, b.behaviour_log_probs)
        and (a.example.id, a.group, a.policy_step) == (b.example.id, b.group, b.policy_step)
        for a, b in zip(one, other, strict=True)
    )


def test_without_staleness_and_anchor_a_run_is_opd_to_the_bit(models, tmp_path):
    """With opd's choice of whose log-probability the teacher's is compared with; f_opd's own is the current student's."""
    fresh = small(models, staleness=0, anchor=0.0)
    term = replace(fresh.terms[0], signal=ScoreFunction(advantage=LogRatio(relative_to="behaviour")))
    assert term.weights == (Freshness(),)
    plain = replace(opd(str(models.teacher), n=2, max_new_tokens=6), name="f_opd")
    students = []
    for place, recipe in (("fresh", replace(fresh, terms=(term,))), ("plain", plain)):
        config = models.config("f_opd", tmp_path / place, recipe=recipe, evaluation_data=None)
        students.append(load_file(api.train(config).student / "model.safetensors"))
    assert students[0].keys() == students[1].keys()
    assert all(torch.equal(students[0][key], students[1][key]) for key in students[0])


def test_the_weights_of_an_example_by_hand():
    """Three responses: of now, of one step ago and of three steps ago; the last one drifted by log 2 at each of its tokens."""
    nothing = torch.zeros(2)
    rollouts = [
        replace(dense.rollout([1, 2], [dense.Author.STUDENT] * 2, nothing + shift, group=place), policy_step=written)
        for place, (shift, written) in enumerate([(-5.0, 7), (0.5, 6), (log(2.0), 4)])
    ]
    batch = StepBatch.of(rollouts)
    measured = {"student_log_prob": torch.zeros(6)}
    everything = torch.ones(6, dtype=torch.bool)

    def weights(part: Freshness, mask=everything) -> list[float]:
        found = part(batch, measured, mask, step=7, gather=lambda local: local)
        return found[[0, 2, 4]].tolist()

    raw = [1.0, exp(-0.5 - 0.1), 0.5 * exp(-0.3)]
    mean = sum(raw) / 3
    assert weights(Freshness(drift=1.0, age=0.1, floor=0.0)) == pytest.approx([value / mean for value in raw])
    clipped = [1.0, raw[1], 0.4]
    assert weights(Freshness(drift=1.0, age=0.1, floor=0.4)) == pytest.approx([value / (sum(clipped) / 3) for value in clipped])
    kept = (raw[0] + raw[1]) / 2
    assert weights(Freshness(drift=1.0, age=0.1, drop=0.4)) == pytest.approx([1.0 / kept, raw[1] / kept, 0.0])
    first = torch.tensor([True, True, False, False, False, False])
    assert weights(Freshness(), first)[0] == 1.0


def test_the_weight_falls_with_drift_and_with_age():
    def weight(shift: float, written: int) -> float:
        rollouts = [
            replace(dense.rollout([1], [dense.Author.STUDENT], torch.tensor([size]), group=place), policy_step=step)
            for place, (size, step) in enumerate([(0.0, 9), (shift, written)])
        ]
        batch = StepBatch.of(rollouts)
        part, mask = Freshness(drift=0.7, age=0.2, floor=0.0), torch.ones(2, dtype=torch.bool)
        new, old = part(batch, {"student_log_prob": torch.zeros(2)}, mask, step=9, gather=lambda local: local).tolist()
        return old / new

    assert 1.0 > weight(0.1, 8) > weight(0.4, 8) > weight(0.8, 8)
    assert weight(0.4, 8) > weight(0.4, 5) > weight(0.4, 1)


def test_a_step_holds_new_responses_and_such_as_are_as_old_as_asked_for(models, tmp_path):
    found = built(models, tmp_path, small(models, staleness=2, reuse=0.5))
    prompts = prompt_order(models.config("f_opd", tmp_path), found)
    written = []
    for step in range(6):
        written.append(found.writer.write(prompts(step), step=step))
        moved(found)
    for step, rollouts in enumerate(written):
        assert [rollout.group for rollout in rollouts] == [0, 0, 1, 1, 2, 2, 3, 3]
        ages = [step - rollout.policy_step for rollout in rollouts]
        assert ages == ([0] * 8 if step < 2 else [0] * 4 + [2] * 4)
    for step in range(2, 6):
        stale = [rollout for rollout in written[step] if rollout.policy_step < step]
        then = [rollout for rollout in written[step - 2] if rollout.policy_step == step - 2]
        assert all(any(old.response_ids is rollout.response_ids for old in then) for rollout in stale)


def test_the_buffer_survives_a_restart_to_the_bit(models, tmp_path):
    recipe = small(models, staleness=2)
    found, other = (built(models, tmp_path / name, recipe) for name in ("a", "b"))
    prompts = prompt_order(models.config("f_opd", tmp_path), found)
    for step in range(3):
        found.writer.write(prompts(step), step=step)
    other.writer.load_state_dict(found.writer.state_dict())
    for step in range(3, 6):
        assert same(found.writer.write(prompts(step), step=step), other.writer.write(prompts(step), step=step))
    lost = built(models, tmp_path / "c", recipe)
    state = found.writer.state_dict()
    state["kept"][0]["example"] = "gone"
    with pytest.raises(DataError, match="gone"):
        lost.writer.load_state_dict(state)


def test_an_empty_buffer_is_the_student_to_the_bit(models, tmp_path):
    recipe = small(models, staleness=0)
    assert isinstance(recipe.rollouts, BufferedRollouts)
    plain = replace(recipe, rollouts=StudentRollouts(sampling=recipe.rollouts.sampling))
    found, other = (built(models, tmp_path / name, one) for name, one in (("a", recipe), ("b", plain)))
    for step in range(3):
        one, two = (each.writer.write(each.prompts[:4], step=step) for each in (found, other))
        assert same(one, two)
    assert found.writer.state_dict() == {"kept": []}


def test_the_anchor_is_the_divergence_from_whoever_wrote_and_asks_no_teacher():
    """k3 = e^x - 1 - x with x = log mu - log pi_S, whose derivative with respect to log pi_S is 1 - e^x."""
    given = dense.problem(lengths=(5,), stale=0.4)
    term = Term(name="anchor", signal=SampledKL(estimator="k3", against="behaviour"))
    assert not term.needs
    found = dense.evaluate([term], given)
    own = dense.tables(given)[0].gather(-1, given.batch.token.unsqueeze(-1)).squeeze(-1)
    x = given.batch.behaviour_log_probs - own.detach()
    assert float(found.loss.detach()) == pytest.approx(float((x.exp() - 1.0 - x).mean()))
    expected = torch.autograd.grad(((1.0 - x.exp()) * own).mean(), given.leaves)
    for ours, theirs in zip(dense.gradients(found.loss, given), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_what_means_nothing_is_refused():
    for knobs in ({"staleness": -1}, {"reuse": 1.1}):
        with pytest.raises(ConfigError, match="BufferedRollouts needs"):
            f_opd(**knobs)
    for knobs in ({"drift": -1.0}, {"age": -0.1}, {"floor": 2.0}, {"drop": -0.5}):
        with pytest.raises(ConfigError, match="Freshness needs"):
            f_opd(**knobs)
    with pytest.raises(ConfigError, match="earlier steps"):
        moments(make(Size(vocab=3, length=2)), f_opd())

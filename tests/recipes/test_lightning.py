from dataclasses import replace

import pytest
import torch
from tests.pairs import Pair, make_pair

from enumeration import every_token, pair
from tutelage.errors import ConfigError, PreflightError
from tutelage.objectives import ReverseKL, Term
from tutelage.objectives.compositions import ProductOfTeachers
from tutelage.recipes import Recipe, opd
from tutelage.recipes.replay import lightning
from tutelage.rollouts.sources import ReplayRollouts, StudentRollouts
from tutelage.run import api
from tutelage.run.assembly import Assembled, assemble, prompt_order
from tutelage.run.recipe_checks import check_recipe
from tutelage.teachers import Cached, Teacher
from tutelage.teachers.parts import ModelTeacher, RoutedTeacher
from tutelage.types import Rollout, StepBatch


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def built(models: Pair, folder, recipe: Recipe) -> Assembled:
    return assemble(models.config("lightning", folder, recipe=recipe, evaluation_data=None))


def counted(monkeypatch) -> list[int]:
    """How many rollouts each forward of a teacher was asked about."""
    asked, score = [], Teacher.score

    def counting(self, batch, **only):
        asked.append(len(only.get("only") or batch.rollouts))
        return score(self, batch, **only)

    monkeypatch.setattr(Teacher, "score", counting)
    return asked


def same(one: list[Rollout], other: list[Rollout]) -> bool:
    return all(
        torch.equal(a.response_ids, b.response_ids) and torch.equal(a.behaviour_log_probs, b.behaviour_log_probs)
        for a, b in zip(one, other, strict=True)
    )


def test_on_what_the_current_student_wrote_it_has_the_gradient_of_opd():
    student, teacher = pair()
    torch.testing.assert_close(
        every_token(lightning(), student, teacher), every_token(opd(), student, teacher), rtol=1e-12, atol=1e-14
    )


def test_on_what_an_earlier_student_wrote_nothing_of_that_student_enters():
    student, teacher = pair()
    earlier = pair(seed=7)[0].log_softmax(-1)
    of_earlier = every_token(lightning(), student, teacher, behaviour=earlier)
    assert torch.equal(of_earlier, every_token(lightning(), student, teacher))


def test_remembered_scores_give_the_step_that_fresh_scores_give(models, tmp_path):
    recipe = lightning(str(models.teacher), n=2, max_new_tokens=6)
    fresh = replace(recipe, teacher=ModelTeacher(model=str(models.teacher)))
    updates = []
    for one, place in ((recipe, "remembered"), (fresh, "fresh")):
        found = built(models, tmp_path / place, one)
        prompts = found.prompts[:4]
        for _ in range(2):  # the second time nothing is asked any more
            rollouts = found.writer.write(prompts, step=0)
            taught = found.teaching.score(StepBatch.of(rollouts, found.verifier.judge(rollouts)))
            updates.append(found.learner.update(taught.batch, taught.signals, step=0))
    for remembered, asked in zip(updates[:2], updates[2:], strict=True):
        assert remembered.gradient_norm > 0.01
        assert remembered.loss == pytest.approx(asked.loss, rel=1e-6)
        assert remembered.gradient_norm == pytest.approx(asked.gradient_norm, rel=1e-6)


def test_in_the_second_epoch_no_teacher_runs_and_the_responses_are_those_of_the_first(models, tmp_path, monkeypatch):
    asked = counted(monkeypatch)
    config = models.config("lightning", tmp_path / "run", evaluation_data=None)
    assert config.training.num_steps * config.training.prompts_per_step == 2 * config.data.limit, "two epochs"
    api.train(config)
    assert asked == [8, 8], "every prompt has two responses, each of them scored once"


def test_ahead_of_the_run_the_student_writes_to_all_prompts_as_it_is_then(models, tmp_path):
    found = built(models, tmp_path, lightning(str(models.teacher), n=2, max_new_tokens=6))
    prompts = prompt_order(models.config("lightning", tmp_path), found)
    first = found.writer.write(prompts(0), step=0)
    with torch.no_grad():
        for parameter in found.student.trainable_parameters():
            parameter.add_(torch.randn_like(parameter))
    steps = [found.writer.write(prompts(step), step=step) for step in range(4)]
    assert same(steps[0], first)
    assert {rollout.policy_step for step in steps for rollout in step} == {0}
    assert len({rollout.example.id for step in steps[:2] for rollout in step}) == 8
    by_id = {rollout.example.id: rollout for rollout in steps[0] + steps[1]}
    assert all(torch.equal(r.prompt_ids, by_id[r.example.id].prompt_ids) for r in steps[2] + steps[3])
    again = built(models, tmp_path, lightning(str(models.teacher), n=2, max_new_tokens=6))
    again.writer.load_state_dict(found.writer.state_dict())
    assert same(again.writer.write(prompts(3), step=3), steps[3])


def test_not_ahead_the_first_epoch_is_what_the_student_writes_online(models, tmp_path):
    recipe = lightning(str(models.teacher), n=2, ahead=False, max_new_tokens=6)
    assert isinstance(recipe.rollouts, ReplayRollouts)
    online = replace(recipe, rollouts=StudentRollouts(sampling=recipe.rollouts.sampling))
    replayed, written = (built(models, tmp_path / name, one) for name, one in (("a", recipe), ("b", online)))
    for step in range(2):
        prompts = replayed.prompts[4 * step : 4 * step + 4]
        one, other = (found.writer.write(prompts, step=step) for found in (replayed, written))
        assert same(one, other)
        assert [rollout.policy_step for rollout in one] == [step] * 8


def test_a_teacher_that_remembers_keeps_its_scores_over_a_restart(models, tmp_path, monkeypatch):
    recipe = lightning(str(models.teacher), n=2, max_new_tokens=6)
    found, other = (built(models, tmp_path / name, recipe) for name in ("a", "b"))
    batch = StepBatch.of(found.writer.write(found.prompts[:3], step=0))
    before = found.teaching.score(batch).signals["teacher"]
    assert isinstance(found.teacher, Cached)
    other.teaching.load_state_dict(found.teaching.state_dict())
    asked = counted(monkeypatch)
    assert torch.equal(other.teaching.score(batch).signals["teacher"].sampled, before.sampled)
    assert asked == []


def test_what_remembered_scores_cannot_give_is_refused():
    with pytest.raises(PreflightError, match="provides only"):
        check_recipe(replace(lightning("some/teacher"), terms=(Term(name="exact", signal=ReverseKL()),)))
    with pytest.raises(ConfigError, match="experts that remember"):
        RoutedTeacher(experts={"a": ModelTeacher(remember=True)})
    with pytest.raises(ConfigError, match="whole"):
        replace(
            lightning("some/teacher"),
            compositions={"both": ProductOfTeachers(parts=("teacher",))},
            terms=(Term(name="exact", signal=ReverseKL(), teacher="both"),),
        )

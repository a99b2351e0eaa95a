from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from tests.pairs import Pair, make_pair

from enumeration import every_token, pair
from tutelage.errors import ConfigError
from tutelage.lab.exact import Size, make, moments
from tutelage.objectives import ReverseKL, Term, TopK
from tutelage.recipes import Recipe
from tutelage.recipes.behaviour import brts
from tutelage.rollouts import Aids, Prompt, RolloutWriter, Sample, Text
from tutelage.rollouts.overlap import TopOverlap
from tutelage.rollouts.sources import BestTeacherRollouts, Sampling, StudentRollouts, TeacherRollouts
from tutelage.run.assembly import Assembled, assemble
from tutelage.types import Author, Example, Rollout, Verdict

PROMPTS = [Prompt(example=Example(id=f"p{place}", prompt=""), token_ids=torch.tensor([100 + place])) for place in range(3)]
HINT = 1000
RIGHT = 50
"""Tokens from here on are right; the last digit of a token is how much it overlaps with the student."""


class Says:
    """A sampler that answers each prompt with given tokens, one response after the other."""

    def __init__(self, answers: Mapping[int, Sequence[int]]) -> None:
        self.answers, self.asked = answers, list[int]()

    def sample(self, prompts, sampling, *, seed, max_new_tokens=None):
        told: dict[int, int] = {}
        found = []
        for *_, last in prompts:
            self.asked.append(last)
            place = told[last] = told.get(last, -1) + 1
            found.append(Sample(token_ids=torch.tensor([self.answers[last][place]]), log_probs=torch.zeros(1), finish="stop"))
        return found


def overlap(rollouts: Sequence[Rollout], *, k: int) -> list[float]:
    return [int(rollout.response_ids[0]) % 10 / 10 for rollout in rollouts]


def writer(answers: Mapping[int, Sequence[int]], *, hinted: bool = True, **knobs) -> tuple[RolloutWriter, Says]:
    teacher = Says(answers)
    source = BestTeacherRollouts(sampling=Sampling(max_new_tokens=4), **knobs)
    return RolloutWriter(
        source,
        student=Says({int(prompt.token_ids[-1]): [7] for prompt in PROMPTS}),
        text=Text(decode=lambda ids: str(ids), encode_response=lambda text: []),
        seed=0,
        teacher=teacher,
        aids=Aids(
            judge=lambda rollouts: [Verdict(correct=int(rollout.response_ids[0]) >= RIGHT) for rollout in rollouts],
            overlap=overlap,
            hint=lambda prompt: [HINT + int(prompt.token_ids[-1])] if hinted else None,
        ),
    ), teacher


def chosen(rollouts: Sequence[Rollout]) -> list[int | None]:
    """The teacher's token for each prompt."""
    theirs = {rollout.group: int(rollout.response_ids[0]) for rollout in rollouts if int(rollout.authors[0]) == Author.TEACHER}
    return [theirs.get(place) for place in range(len(PROMPTS))]


CASES = {
    "two right: the nearer one": ([51, 53], None, 53),
    "equally near: the first one": ([63, 53], None, 63),
    "right before near": ([9, 51], None, 51),
    "a right one after a hint before a near wrong one": ([9, 8], [50], 50),
    "wrong after a hint as well: the nearest of those without one": ([2, 8], [9], 8),
}


@pytest.mark.parametrize(("own", "hinted", "expected"), CASES.values(), ids=CASES.keys())
def test_the_tiers_are_kept_in_their_order(own, hinted, expected):
    made, teacher = writer({100: own, 101: [51, 50], 102: [51, 50], **({1100: hinted} if hinted else {})})
    found = made.write(PROMPTS, step=0)
    assert chosen(found) == [expected, 51, 51]
    assert teacher.asked.count(1100) == (1 if hinted else 0), "a hint is given only where none is right"
    assert [rollout.group for rollout in found] == [0, 0, 1, 1, 2, 2]
    assert [int(rollout.authors[0]) for rollout in found] == [Author.STUDENT, Author.TEACHER] * 3
    assert all(torch.equal(rollout.prompt_ids, PROMPTS[rollout.group].token_ids) for rollout in found)


def test_where_none_is_right_the_prompt_may_have_the_students_responses_only():
    answers = {100: [2, 8], 101: [51, 50], 102: [3, 4]}
    made, _ = writer(answers, hinted=False, otherwise="skip")
    assert chosen(made.write(PROMPTS, step=0)) == [None, 51, None]
    made, teacher = writer(answers, hints=0)
    assert chosen(made.write(PROMPTS, step=0)) == [8, 51, 4]
    assert max(teacher.asked) < HINT


def test_the_teacher_writes_once_for_the_whole_run_also_over_a_restart():
    answers = {100: [9, 8], 101: [51, 50], 102: [51, 50], 1100: [50]}
    made, teacher = writer(answers)
    first = chosen(made.write(PROMPTS, step=0))
    asked = len(teacher.asked)
    assert chosen(made.write(PROMPTS, step=1)) == first
    assert len(teacher.asked) == asked == 7
    resumed, silent = writer({})
    resumed.load_state_dict(made.state_dict())
    assert chosen(resumed.write(PROMPTS, step=2)) == first
    assert silent.asked == []


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def built(models: Pair, folder, recipe: Recipe) -> Assembled:
    return assemble(models.config("brts", folder, recipe=recipe, evaluation_data=None))


def test_one_response_without_hints_is_what_the_teacher_writes(models, tmp_path):
    recipe = brts(str(models.teacher), teacher_n=1, hints=0, max_new_tokens=6)
    assert isinstance(recipe.rollouts, BestTeacherRollouts)
    alone = replace(recipe, rollouts=TeacherRollouts(sampling=recipe.rollouts.teacher_sampling), terms=recipe.terms[1:])
    found, other = (built(models, tmp_path / name, one) for name, one in (("a", recipe), ("b", alone)))
    written = found.writer.write(found.prompts[:4], step=0)
    theirs = [rollout for rollout in written if int(rollout.authors[0]) == Author.TEACHER]
    for one, two in zip(theirs, other.writer.write(other.prompts[:4], step=0), strict=True):
        assert torch.equal(one.response_ids, two.response_ids)
        assert one.group == two.group


def test_the_students_part_is_what_it_writes_alone(models, tmp_path):
    recipe = brts(str(models.teacher), max_new_tokens=6)
    alone = replace(recipe, rollouts=StudentRollouts(sampling=recipe.rollouts.sampling), terms=recipe.terms[:1])
    found, other = (built(models, tmp_path / name, one) for name, one in (("a", recipe), ("b", alone)))
    written = found.writer.write(found.prompts[:4], step=3)
    own = [rollout for rollout in written if int(rollout.authors[0]) == Author.STUDENT]
    for one, two in zip(own, other.writer.write(other.prompts[:4], step=3), strict=True):
        assert torch.equal(one.response_ids, two.response_ids)


def test_the_overlap_is_the_share_of_tokens_among_the_students_likeliest(models, tmp_path):
    found = built(models, tmp_path, brts(str(models.teacher), max_new_tokens=6))
    rollouts = found.writer.write(found.prompts[:4], step=0)
    vocab = found.report.vocab
    measured = TopOverlap(found.student, vocab=vocab, microbatch_tokens=30)(rollouts, k=3)
    for rollout, share in zip(rollouts, measured, strict=True):
        ids, start = torch.cat([rollout.prompt_ids, rollout.response_ids]).unsqueeze(0), len(rollout.prompt_ids)
        with torch.no_grad():
            logits = found.student.model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1, :vocab]
        ranks = [int((row > row[token]).sum()) for row, token in zip(logits, rollout.response_ids.tolist(), strict=True)]
        assert share == pytest.approx(sum(rank < 3 for rank in ranks) / len(ranks))
    assert 0.0 < sum(measured) < len(measured)


def test_greedy_text_of_the_student_itself_overlaps_wholly(models, tmp_path):
    found = built(models, tmp_path, brts(str(models.teacher), max_new_tokens=6))
    ids = [prompt.token_ids.tolist() for prompt in found.prompts[:3]]
    samples = found.sampler.sample(ids, Sampling(temperature=0.0, max_new_tokens=6), seed=0)
    [first, *_] = found.writer.write(found.prompts[:3], step=0)
    greedy = [
        replace(
            first,
            prompt_ids=prompt.token_ids,
            response_ids=sample.token_ids,
            authors=torch.full_like(sample.token_ids, int(Author.TEACHER)),
            behaviour_log_probs=torch.full_like(sample.log_probs, torch.nan),
        )
        for prompt, sample in zip(found.prompts[:3], samples, strict=True)
    ]
    assert TopOverlap(found.student, vocab=found.report.vocab, microbatch_tokens=512)(greedy, k=1) == [1.0, 1.0, 1.0]


def test_without_imitation_it_is_the_reverse_kl_on_the_students_own_responses():
    recipe = brts(auxiliary=0.0, k=4)
    assert isinstance(recipe.rollouts, StudentRollouts)
    student, teacher = pair()
    plain = replace(recipe, terms=(Term(name="plain", signal=ReverseKL(support=TopK(k=4, chosen_by="student"))),))
    assert torch.equal(every_token(recipe, student, teacher), every_token(plain, student, teacher))


def test_what_means_nothing_is_refused():
    for knobs in ({"overlap_k": 0}, {"hints": -1}, {"teacher_n": 0}, {"teacher_top_p": 1.5}):
        with pytest.raises(ConfigError, match="needs"):
            BestTeacherRollouts(**knobs)
    with pytest.raises(ConfigError, match="second prompt"):
        moments(make(Size(vocab=3, length=2)), brts())
    assert brts().verdicts == {"correct"}

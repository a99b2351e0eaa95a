"""A teacher's scores: the truth is one plain forward per rollout through the whole model, without batches or padding."""

import pytest
import torch
from torch import Tensor

from tutelage.errors import TeacherError
from tutelage.models import LanguageModel
from tutelage.objectives.fused import measure
from tutelage.teachers import Scored, build
from tutelage.teachers.context_parts import PeerSolution
from tutelage.teachers.parts import Average, Frozen, Live, ModelTeacher, NoContext, ReferenceSolution, SelfTeacher
from tutelage.types import Author, Example, StepBatch, Verdict

VOCAB = 258
EXAMPLES = [
    Example(id="short", prompt="2+2=", solution="four"),
    Example(id="long", prompt="A train leaves at noon. " * 4, solution="Add the hours up. " * 3),
    Example(id="middle", prompt="Why is the sky blue?", solution="Rayleigh scattering."),
]
RESPONSES = ["4", "It arrives at five, I think.", "Light scatters.", "5", "No idea"]
CONTEXT = ReferenceSolution(plain_template="Known: {context}\n{prompt}")


def scorer(model: LanguageModel, *, context=CONTEXT, microbatch_tokens: int = 64, student: LanguageModel | None = None):
    return build(
        ModelTeacher(model="unused", context=context),
        student=student or model,
        load=lambda part: model,
        vocab=VOCAB,
        microbatch_tokens=microbatch_tokens,
    )


def rollouts_of(make_rollout, *, order=range(5)):
    made = [make_rollout(EXAMPLES[index % 3], response, group=index % 3) for index, response in enumerate(RESPONSES)]
    return [made[index] for index in order]


def log_probs(scored: Scored) -> Tensor:
    head = scored.signal.head
    return (scored.signal.hidden @ head.weight.T).log_softmax(-1)


def plain_forward(model: LanguageModel, prompt: str, response: Tensor) -> Tensor:
    """Log-probabilities over the shared ids at each token of a response."""
    ids = torch.tensor(model.tokenizer(prompt)["input_ids"])
    with torch.no_grad():
        logits = model.model(torch.cat([ids, response]).unsqueeze(0)).logits[0]
    return logits[len(ids) - 1 : -1, :VOCAB].log_softmax(-1)


@pytest.mark.parametrize("context", [NoContext(), CONTEXT])
def test_scores_are_those_of_one_plain_forward_per_rollout(make_model, make_rollout, context):
    model, rollouts = make_model(seed=1), rollouts_of(make_rollout)
    scored = scorer(model, context=context).score(StepBatch.of(rollouts))
    truth = [
        plain_forward(
            model,
            rollout.example.prompt
            if isinstance(context, NoContext)
            else f"Known: {rollout.example.solution}\n{rollout.example.prompt}",
            rollout.response_ids,
        )
        for rollout in rollouts
    ]
    torch.testing.assert_close(log_probs(scored), torch.cat(truth), rtol=1e-4, atol=1e-4)
    assert scored.rows_taught.all()
    expected = "unchanged: no context asked for" if isinstance(context, NoContext) else "injected:solution"
    assert scored.reasons == (expected,) * 5


def test_a_context_changes_what_the_teacher_says_at_every_token(make_model, make_rollout):
    model, batch = make_model(seed=1), StepBatch.of(rollouts_of(make_rollout))
    blind = log_probs(scorer(model, context=NoContext()).score(batch))
    seeing = log_probs(scorer(model).score(batch))
    changed = (blind.exp() * (blind - seeing)).sum(-1)  # the divergence between the two, in nats
    assert changed.min() > 1e-3


@pytest.mark.parametrize("microbatch_tokens", [1, 100, 300, 1_000_000])
def test_grouping_and_padding_change_nothing(make_model, make_rollout, microbatch_tokens):
    model, batch = make_model(seed=1), StepBatch.of(rollouts_of(make_rollout))
    alone = scorer(model, microbatch_tokens=1).score(batch).signal.hidden
    grouped = scorer(model, microbatch_tokens=microbatch_tokens).score(batch).signal.hidden
    torch.testing.assert_close(grouped, alone, rtol=1e-5, atol=1e-5)


def test_order_changes_nothing_and_rows_stay_with_their_rollouts(make_model, make_rollout):
    teacher, order = scorer(make_model(seed=1)), [3, 0, 4, 2, 1]
    forward = StepBatch.of(rollouts_of(make_rollout))
    shuffled = StepBatch.of(rollouts_of(make_rollout, order=order))
    first, second = teacher.score(forward).signal.hidden, teacher.score(shuffled).signal.hidden
    for place, index in enumerate(order):
        torch.testing.assert_close(second[shuffled.rows_of([place])], first[forward.rows_of([index])], rtol=1e-5, atol=1e-5)


def test_tokens_that_nobody_chose_are_read_but_not_scored(make_model, make_rollout):
    model = make_model(seed=1)
    authors = [Author.STUDENT, Author.NONE, Author.NONE, Author.TEACHER, Author.STUDENT]
    rollout = make_rollout(EXAMPLES[0], "abcd", authors=authors)
    scored = scorer(model, context=NoContext()).score(StepBatch.of([rollout]))
    truth = plain_forward(model, "2+2=", rollout.response_ids)
    torch.testing.assert_close(log_probs(scored), truth[[0, 3, 4]], rtol=1e-4, atol=1e-4)


def test_statistics_of_the_fused_head_agree_with_the_plain_forward(make_model, make_rollout):
    student, teacher = make_model(seed=0), make_model(seed=1)
    rollout = make_rollout(EXAMPLES[2], "Light scatters.")
    batch = StepBatch.of([rollout])
    same = scorer(teacher, context=NoContext(), student=student)
    own = scorer(student, context=NoContext()).score(batch).signal
    found = measure(batch, hidden=own.hidden, head=own.head, teachers={"teacher": same.score(batch).signal})
    p, q = (plain_forward(model, "Why is the sky blue?", rollout.response_ids) for model in (student, teacher))
    torch.testing.assert_close(found["reverse_kl_nats"], (p.exp() * (p - q)).sum(-1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["forward_kl_nats"], (q.exp() * (q - p)).sum(-1), rtol=1e-3, atol=1e-4)


def test_a_conversation_is_rendered_by_the_teachers_template_and_options(make_model, make_rollout):
    model = make_model(seed=1)
    example = Example(id="chat", prompt=({"role": "user", "content": "2+2"},), solution="four")
    rollout = make_rollout(example, "4")
    part = ModelTeacher(
        model="unused", template_options={"quiet": True}, context=ReferenceSolution(template="{prompt} ({context})")
    )
    teacher = build(part, student=model, load=lambda part: model, vocab=VOCAB, microbatch_tokens=64)
    scored = teacher.score(StepBatch.of([rollout]))
    truth = plain_forward(model, "[user]2+2 (four)[assistant](quiet)", rollout.response_ids)
    torch.testing.assert_close(log_probs(scored), truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("update", [Frozen(), Live(), Average()])
def test_nothing_of_a_teacher_is_in_the_graph(make_model, make_rollout, update):
    student = make_model(seed=0)
    teacher = build(
        SelfTeacher(update=update, context=NoContext()),
        student=student,
        load=lambda part: pytest.fail("a self teacher loads nothing"),
        vocab=VOCAB,
        microbatch_tokens=64,
    )
    signal = teacher.score(StepBatch.of(rollouts_of(make_rollout))).signal
    assert not signal.hidden.requires_grad
    assert not signal.head.weight.requires_grad
    assert student.head().weight.requires_grad  # the student itself still trains


def test_rollouts_without_a_context_are_masked_and_the_others_are_not_touched(make_model, make_rollout):
    teacher = scorer(make_model(seed=1))
    bare = Example(id="bare", prompt="7*7=")
    rollouts = rollouts_of(make_rollout)
    mixed = [rollouts[0], make_rollout(bare, "49", group=9), rollouts[1]]
    scored, batch = teacher.score(StepBatch.of(mixed)), StepBatch.of(mixed)
    assert scored.reasons == ("injected:solution", "skipped:no solution", "injected:solution")
    assert torch.equal(scored.rows_taught, batch.rollout != 1)
    assert scored.signal.hidden.isfinite().all()
    alone = teacher.score(StepBatch.of([rollouts[0], rollouts[1]]))
    torch.testing.assert_close(scored.signal.hidden[scored.rows_taught], alone.signal.hidden, rtol=1e-5, atol=1e-5)


def test_a_step_that_nobody_can_be_taught_in_is_refused_with_the_reasons(make_model, make_rollout):
    bare = [make_rollout(Example(id=str(index), prompt="7*7="), "49", group=index) for index in range(3)]
    with pytest.raises(TeacherError, match=r"none of the step's 3 rollouts: skipped:no solution \(3\)"):
        scorer(make_model()).score(StepBatch.of(bare))


def test_a_prompt_that_the_teacher_cannot_hold_is_skipped_with_the_reason(make_model, make_rollout):
    scored = scorer(make_model(max_context=100)).score(StepBatch.of(rollouts_of(make_rollout)))
    assert [reason.startswith("skipped:prompt and response exceed") for reason in scored.reasons] == [
        False,
        True,
        False,
        False,
        True,
    ]


def test_the_head_is_cut_to_the_shared_ids(make_model, make_rollout):
    model = make_model()
    assert model.vocab_size > VOCAB
    assert scorer(model).score(StepBatch.of(rollouts_of(make_rollout))).signal.head.vocab_size == VOCAB


def test_hidden_states_keep_the_teachers_type(make_model, make_rollout):
    model = make_model()
    model.model.to(torch.bfloat16)
    assert scorer(model).score(StepBatch.of(rollouts_of(make_rollout))).signal.hidden.dtype == torch.bfloat16


def test_a_live_teacher_has_no_dropout_and_the_student_goes_on_training(make_model, make_rollout):
    student, batch = make_model(rank=4, dropout=0.5), StepBatch.of(rollouts_of(make_rollout))
    teacher = build(
        SelfTeacher(update=Live(), context=NoContext()),
        student=student,
        load=lambda part: student,
        vocab=VOCAB,
        microbatch_tokens=64,
    )
    calm = teacher.score(batch).signal.hidden
    student.model.train()
    torch.testing.assert_close(teacher.score(batch).signal.hidden, calm)
    assert student.model.training


def test_a_teacher_that_reads_a_right_peer_reads_the_peers_own_words(make_model, make_rollout):
    model = make_model(seed=1)
    rollouts = [make_rollout(EXAMPLES[0], text, group=0) for text in ("5", "4", "no idea")]
    context = PeerSolution(plain_template="Known: {context}\n{prompt}")
    batch = StepBatch.of(rollouts, [Verdict(correct=text == "4") for text in ("5", "4", "no idea")])
    scored = scorer(model, context=context).score(batch)
    assert scored.rows_taught.tolist() == [index != 1 for index in batch.rollout.tolist()], "nobody but itself was right"
    for index in (0, 2):
        truth = plain_forward(model, "Known: 4\n2+2=", rollouts[index].response_ids)
        torch.testing.assert_close(log_probs(scored)[batch.rollout == index], truth, rtol=1e-4, atol=1e-4)


def test_a_step_without_a_right_peer_is_a_step_in_which_nobody_is_taught(make_model, make_rollout):
    rollouts = [make_rollout(EXAMPLES[0], text, group=0) for text in ("5", "6")]
    scored = scorer(make_model(), context=PeerSolution()).score(StepBatch.of(rollouts, [Verdict(correct=False)] * 2))
    assert not scored.rows_taught.any()

"""A teacher behind a cache. The truth is a plain softmax over the teacher's own logits, and who was asked how often."""

import logging

import pytest
import torch

from tutelage.errors import CacheError, ConfigError, NumericsError, TeacherError
from tutelage.scores import ERROR_NATS, DiskStore, MemoryStore, Request
from tutelage.teachers import CacheUse, Scorer, Teacher, build
from tutelage.teachers.cached import Cache, Cached
from tutelage.teachers.context_parts import ReferenceSolution
from tutelage.teachers.keeping import keep_head, read_head
from tutelage.teachers.parts import ModelTeacher, RoutedTeacher
from tutelage.types import Author, Example, FullSignal, SampledSignal, StepBatch, TopKSignal

VOCAB = 258
RESPONSES = ["4", "It arrives at five, I think.", "Light scatters.", "5", "No idea"]
SAMPLED, TOP, HIDDEN = Request(kind="sampled"), Request(kind="top_k", k=8), Request(kind="hidden")


class Counting:
    """A scorer that notes which rollouts it was asked about."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher, self.asked = teacher, []
        self.provides, self.reading = teacher.provides, teacher.reading
        self.update, self.state_dict, self.load_state_dict = teacher.update, teacher.state_dict, teacher.load_state_dict

    def score(self, batch, *, only=None):
        self.asked.append(list(only))
        return self.teacher.score(batch, only=only)


def teacher_of(model, **options) -> Teacher:
    part = ModelTeacher(model="unused", **options)
    return build(part, student=model, load=lambda _: model, vocab=VOCAB, microbatch_tokens=64)


def cached(teacher, request: Request, store, *, fingerprint: str = "t", **options) -> Cached:
    if request.kind == "hidden":
        options["head"] = lambda: teacher.score(options["batch"]).signal.head
    whole = {name: value for name, value in options.items() if name not in ("offline", "batch")}
    cache = Cache(store=store, request=request, vocab=VOCAB, fingerprint=lambda example: fingerprint, place="'here'", **whole)
    return Cached(teacher, cache, offline=options.get("offline", False))


def batch_of(make_rollout, responses=RESPONSES) -> StepBatch:
    examples = [Example(id=f"{n}", prompt=f"{n}+{n}=", solution=str(2 * n)) for n in range(3)]
    return StepBatch.of([make_rollout(examples[n % 3], text, group=n % 3) for n, text in enumerate(responses)])


def truth(model, batch: StepBatch) -> torch.Tensor:
    """Log-probabilities of every entry at every row, in float64, one rollout at a time."""
    rows = []
    for rollout in batch.rollouts:
        ids = torch.cat([rollout.prompt_ids, rollout.response_ids]).unsqueeze(0)
        with torch.no_grad():
            logits = model.model(ids).logits[0, len(rollout.prompt_ids) - 1 : -1, :VOCAB]
        rows.append(logits[rollout.authors != Author.NONE].double().log_softmax(-1))
    return torch.cat(rows)


@pytest.mark.parametrize("again", [False, True], ids=["as it is asked", "as it is read again"])
def test_scores_are_the_log_softmax_of_the_teacher_within_the_stated_bound(make_model, make_rollout, tmp_path, again):
    model, batch = make_model(), batch_of(make_rollout)
    exact, place = truth(model, batch), DiskStore(tmp_path, max_bytes=1 << 30)
    own = exact.gather(-1, batch.token.unsqueeze(-1)).squeeze(-1)
    for request in (SAMPLED, TOP):
        if again:
            cached(teacher_of(model), request, place).score(batch)
        found = cached(teacher_of(model), request, place, offline=again).score(batch)
        assert found.rows_taught.all()
        torch.testing.assert_close(found.signal.sampled.double(), own, rtol=0, atol=2e-5)
    assert isinstance(found.signal, TopKSignal)
    likeliest = exact.topk(8, dim=-1)
    assert torch.equal(found.signal.ids, likeliest.indices)
    assert (found.signal.log_probs - likeliest.values).abs().max() <= ERROR_NATS + 2e-5


def test_hidden_states_come_back_as_they_were_and_with_their_head_from_the_folder(make_model, make_rollout, tmp_path):
    model, batch = make_model(), batch_of(make_rollout)
    teacher, place = teacher_of(model), DiskStore(tmp_path, max_bytes=1 << 30)
    fresh = teacher.score(batch).signal
    for offline in (False, True):
        found = cached(teacher, HIDDEN, place, batch=batch, offline=offline).score(batch).signal
        assert isinstance(found, FullSignal)
        assert torch.equal(found.hidden, fresh.hidden)
    keep_head(tmp_path, "t", fresh.head)
    head = read_head(tmp_path, "t", vocab=VOCAB, device=torch.device("cpu"))
    assert torch.equal(head.weight, fresh.head.weight)
    assert (head.bias, head.scale, head.softcap) == (fresh.head.bias, fresh.head.scale, fresh.head.softcap)
    (file,) = (tmp_path / "heads").iterdir()
    assert file.stat().st_size < 2 * head.weight.nbytes, "the cut head alone, without what it was cut from"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CacheError, match="precompute"):
        read_head(tmp_path, "t", vocab=VOCAB, device=torch.device("cpu"))


def test_only_what_is_missing_is_asked_and_the_answer_is_the_same_whoever_asked_first(make_model, make_rollout, tmp_path):
    model = make_model()
    teacher, place = Counting(teacher_of(model)), DiskStore(tmp_path, max_bytes=1 << 30)
    part, whole = batch_of(make_rollout, RESPONSES[:3]), batch_of(make_rollout)
    first = cached(teacher, TOP, place)
    first.score(part)
    found = first.score(whole)
    assert teacher.asked == [[0, 1, 2], [3, 4]]
    assert found.cache == CacheUse(looked_up=5, found=3, asked=2)
    alone = cached(teacher_of(model), TOP, MemoryStore()).score(whole)
    assert torch.equal(found.signal.ids, alone.signal.ids)
    torch.testing.assert_close(found.signal.log_probs, alone.signal.log_probs, rtol=0, atol=2 * ERROR_NATS)
    assert first.direct is teacher


def test_a_response_that_comes_twice_in_a_step_is_asked_about_once(make_model, make_rollout):
    teacher = Counting(teacher_of(make_model()))
    batch = batch_of(make_rollout, ["same", "a", "b", "same"])  # the first and the fourth prompt are the same
    found = cached(teacher, SAMPLED, MemoryStore()).score(batch)
    assert [len(asked) for asked in teacher.asked] == [3]
    assert found.cache == CacheUse(looked_up=4, found=0, asked=3)
    one, other = (found.signal.sampled[batch.rows_of([index])] for index in (0, 3))
    assert torch.equal(one, other)
    assert found.rows_taught.all()


def test_rollouts_that_are_not_asked_about_are_neither_taught_nor_scored(make_model, make_rollout):
    teacher, batch = Counting(teacher_of(make_model())), batch_of(make_rollout)
    found = cached(teacher, SAMPLED, MemoryStore()).score(batch, only=[1])
    assert teacher.asked == [[1]]
    assert torch.equal(found.rows_taught, batch.rollout == 1)
    assert found.cache == CacheUse(looked_up=1, found=0, asked=1)


def test_another_teacher_another_context_and_another_request_never_hit(make_model, make_rollout):
    store, batch, one = MemoryStore(), batch_of(make_rollout), make_model()
    cached(teacher_of(one), SAMPLED, store).score(batch)
    context = ReferenceSolution(plain_template="Known: {context}\n{prompt}")
    others = [
        (Counting(teacher_of(make_model(seed=5))), SAMPLED, "another"),
        (Counting(teacher_of(one, context=context)), SAMPLED, "t"),
        (Counting(teacher_of(one)), TOP, "t"),
    ]
    for teacher, request, fingerprint in others:
        found = cached(teacher, request, store, fingerprint=fingerprint).score(batch)
        assert teacher.asked == [[0, 1, 2, 3, 4]]
        fresh = cached(teacher.teacher, request, MemoryStore()).score(batch)
        assert torch.equal(found.signal.sampled, fresh.signal.sampled)


def test_tokens_that_nobody_chose_have_no_scores_and_other_authors_make_another_key(make_model, make_rollout):
    model, store = make_model(), MemoryStore()
    example, text = Example(id="0", prompt="1+1="), "abcdef"
    mixed = [Author.STUDENT, Author.NONE, Author.NONE, *[Author.STUDENT] * 4]
    for authors in (None, mixed):
        batch = StepBatch.of([make_rollout(example, text, authors=authors)])
        found = cached(teacher_of(model), SAMPLED, store).score(batch)
        own = truth(model, batch).gather(-1, batch.token.unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(found.signal.sampled.double(), own, rtol=0, atol=2e-5)


def test_a_rollout_without_the_context_is_not_taught_and_none_at_all_is_refused(make_model, make_rollout):
    teacher = teacher_of(make_model(), context=ReferenceSolution(plain_template="{context}{prompt}"))
    known, unknown = Example(id="0", prompt="1+1=", solution="2"), Example(id="1", prompt="2+2=")
    both = StepBatch.of([make_rollout(known, "2"), make_rollout(unknown, "4", group=1)])
    found = cached(teacher, SAMPLED, MemoryStore()).score(both)
    assert torch.equal(found.rows_taught, both.rollout == 0)
    assert found.reasons == teacher.score(both).reasons
    for offline in (False, True):
        with pytest.raises(TeacherError, match="can teach none"):
            cached(teacher, SAMPLED, MemoryStore(), offline=offline).score(StepBatch.of([make_rollout(unknown, "4")]))


def test_experts_are_kept_each_under_its_own_name(make_model, make_rollout):
    models = {"a": make_model(seed=1), "b": make_model(seed=2)}
    part = RoutedTeacher(experts={name: ModelTeacher(model=name) for name in models})
    routed = build(part, student=models["a"], load=lambda one: models[one.model], vocab=VOCAB, microbatch_tokens=64)
    rollouts = [
        make_rollout(Example(id=f"{n}", prompt="1+1=", teacher_id=name), "2", group=n) for n, name in enumerate(("b", "a", "b"))
    ]
    batch = StepBatch.of(rollouts)
    exact = torch.cat([truth(models[r.example.teacher_id], StepBatch.of([r])) for r in rollouts])
    cache = Cache(store=MemoryStore(), request=TOP, vocab=VOCAB, fingerprint=part.expert_of)
    for offline in (False, True):
        found = Cached(routed, cache, offline=offline).score(batch)
        assert torch.equal(found.signal.ids, exact.topk(8, dim=-1).indices)
        own = exact.gather(-1, batch.token.unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(found.signal.sampled.double(), own, rtol=0, atol=2e-5)


def test_offline_a_miss_stops_the_run_and_says_how_to_mend_it(make_model, make_rollout):
    teacher = Counting(teacher_of(make_model()))
    offline = cached(teacher, SAMPLED, MemoryStore(), offline=True)
    with pytest.raises(TeacherError, match=r"5 responses.*tutelage cache precompute"):
        offline.score(batch_of(make_rollout))
    assert teacher.asked == []
    assert offline.direct is None


class Unwritable:
    """A store in a folder that is full, or that is read-only."""

    def __init__(self, error: int) -> None:
        self.error = error

    def get(self, keys):
        return {}

    def put(self, entries):
        raise OSError(self.error, "the disk says no")

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_where_nothing_can_be_kept_the_run_goes_on_with_the_teacher_and_is_warned_once(make_model, make_rollout, caplog):
    model, batch = make_model(), batch_of(make_rollout)
    teacher = Counting(teacher_of(model))
    one = cached(teacher, TOP, Unwritable(28))
    with caplog.at_level(logging.WARNING):
        found = [one.score(batch) for _ in range(3)]
    assert len(teacher.asked) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "tutelage cache prune" in caplog.text
    sound = cached(teacher_of(model), TOP, MemoryStore()).score(batch)
    for scored in found:
        assert scored.rows_taught.all()
        assert torch.equal(scored.signal.log_probs, sound.signal.log_probs)


@pytest.mark.parametrize("request_", [SAMPLED, TOP], ids=["sampled", "top_k"])
def test_a_score_that_is_no_number_is_neither_kept_nor_trained_on(make_model, make_rollout, request_):
    model, store, batch = make_model(), MemoryStore(), batch_of(make_rollout)
    with torch.no_grad():
        model.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(NumericsError, match="Nothing of this was kept"):
        cached(teacher_of(model), request_, store).score(batch)
    assert store.state_dict() == MemoryStore().state_dict()


def test_a_teacher_that_gives_less_than_is_to_be_kept_is_refused(make_model, make_rollout):
    batch, narrow = batch_of(make_rollout), cached(teacher_of(make_model()), SAMPLED, MemoryStore())
    assert isinstance(narrow.score(batch).signal, SampledSignal)
    with pytest.raises(ConfigError, match="gives fewer"):
        cached(narrow, TOP, MemoryStore()).score(batch)
    with pytest.raises(ConfigError, match="only log-probabilities"):
        cached(narrow, HIDDEN, MemoryStore(), batch=batch).score(batch)


def test_a_cached_teacher_is_a_scorer_and_reads_what_its_teacher_reads(make_model):
    teacher = teacher_of(make_model())
    found = cached(teacher, TOP, MemoryStore())
    assert isinstance(found, Scorer)
    assert found.provides == TopKSignal.provides
    assert found.reading is teacher.reading

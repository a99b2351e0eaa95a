import json
from itertools import product
from math import exp, sqrt

import pytest
import torch

from tutelage.errors import DataError, NumericsError
from tutelage.models import LanguageModel, ModelSource, load
from tutelage.rollouts import CachedSampler, Sample, Sampler
from tutelage.rollouts.sources import Sampling

PROMPTS = ([3], [4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 8, 9], [9, 8], [2, 7, 1, 8, 2, 8])


def _sampler(model: LanguageModel, *, vocab: int = 12, stops: tuple[int, ...] = (), batch_tokens: int = 65536) -> CachedSampler:
    return CachedSampler(model, vocab=vocab, stop_token_ids=frozenset(stops), batch_tokens=batch_tokens)


@torch.no_grad()
def _fresh_log_probs(model: LanguageModel, prompt: list[int], response: torch.Tensor, vocab: int) -> torch.Tensor:
    """Log-probabilities of every next token, from one forward over the whole text by the model's own output layer."""
    ids = torch.cat([torch.tensor(prompt), response]).unsqueeze(0)
    logits = model.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1, :vocab]
    return logits.float().log_softmax(-1)


def _same(one: Sample, other: Sample) -> bool:
    return torch.equal(one.token_ids, other.token_ids) and one.finish == other.finish


def test_the_cached_sampler_is_a_sampler(make_model):
    assert isinstance(_sampler(make_model()), Sampler)


def test_responses_are_distributed_as_enumeration_says(make_model):
    model = make_model(vocab=4, std=0.6)
    count, prompt = 6000, [1, 2]
    samples = _sampler(model, vocab=3, stops=(2,)).sample([prompt] * count, Sampling(max_new_tokens=3), seed=11)
    found: dict[tuple[int, ...], int] = {}
    for sample in samples:
        key = tuple(sample.token_ids.tolist())
        found[key] = found.get(key, 0) + 1
    ended = [(*start, 2) for length in range(3) for start in product((0, 1), repeat=length)]
    expected = {}
    for response in [*ended, *product((0, 1), repeat=3)]:
        ids = torch.tensor(response)
        log_probs = _fresh_log_probs(model, prompt, ids, 3).gather(-1, ids.unsqueeze(-1))
        expected[response] = count * exp(float(log_probs.sum()))
    assert sum(expected.values()) == pytest.approx(count, rel=1e-4)
    assert found.keys() <= expected.keys()
    statistic = sum((found.get(key, 0) - mean) ** 2 / mean for key, mean in expected.items())
    freedom = len(expected) - 1
    assert statistic < freedom + 4.0 * sqrt(2.0 * freedom)


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "gemma2", "gemma3"])
def test_log_probabilities_are_those_of_a_fresh_forward(make_model, family):
    model = make_model(family=family, vocab=16)
    samples = _sampler(model, stops=(2,)).sample(PROMPTS, Sampling(max_new_tokens=20), seed=1)
    assert len({len(sample.token_ids) for sample in samples}) > 1
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        expected = _fresh_log_probs(model, prompt, sample.token_ids, 12).gather(-1, sample.token_ids.unsqueeze(-1))
        torch.testing.assert_close(sample.log_probs, expected.squeeze(-1), atol=1e-5, rtol=0)


def test_log_probabilities_are_those_of_the_tempered_and_filtered_distribution(make_model):
    model, sampling = make_model(), Sampling(max_new_tokens=8, temperature=0.7, top_k=3)
    for prompt, sample in zip(PROMPTS, _sampler(model).sample(PROMPTS, sampling, seed=2), strict=True):
        for row, token, log_prob in zip(
            _fresh_log_probs(model, prompt, sample.token_ids, 12), sample.token_ids, sample.log_probs, strict=True
        ):
            best = row.topk(3)
            assert int(token) in best.indices.tolist()
            tempered = (best.values / 0.7).log_softmax(-1)[best.indices == token]
            torch.testing.assert_close(log_prob, tempered[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["qwen3", "gpt2", "gemma2", "gemma3"])
def test_greedy_writes_what_the_models_own_generate_writes(make_model, family):
    model = make_model(family=family)
    samples = _sampler(model, stops=(2,)).sample(PROMPTS, Sampling(temperature=0.0, max_new_tokens=24), seed=0)
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        ids = torch.tensor([prompt])
        written = model.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, eos_token_id=2, pad_token_id=0
        )[0, len(prompt) :]
        assert sample.token_ids.tolist() == written.tolist()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_response_does_not_depend_on_batches_or_on_the_other_prompts(make_model, temperature):
    model, sampling = make_model(), Sampling(max_new_tokens=12, temperature=temperature)
    whole = _sampler(model, stops=(2,)).sample(PROMPTS, sampling, seed=7)
    one_by_one = _sampler(model, stops=(2,), batch_tokens=1).sample(PROMPTS, sampling, seed=7)
    in_pairs = _sampler(model, stops=(2,), batch_tokens=40).sample(PROMPTS, sampling, seed=7)
    others = _sampler(model, stops=(2,)).sample([[5] * 20, *PROMPTS[1:3], [1], [1, 1]], sampling, seed=7)
    for index, expected in enumerate(whole):
        assert _same(one_by_one[index], expected)
        assert _same(in_pairs[index], expected)
        torch.testing.assert_close(one_by_one[index].log_probs, expected.log_probs, atol=1e-5, rtol=0)
    assert all(_same(others[index], whole[index]) for index in (1, 2))


def test_another_seed_or_place_gives_another_response(make_model):
    sampler, sampling = _sampler(make_model(std=0.1)), Sampling(max_new_tokens=20)
    first, second = sampler.sample([[3], [3]], sampling, seed=1)
    again = sampler.sample([[3]], sampling, seed=1)[0]
    other = sampler.sample([[3]], sampling, seed=2)[0]
    assert _same(first, again)
    assert not _same(first, second)
    assert not _same(first, other)


def test_a_response_ends_with_the_first_stop_id_or_is_cut(make_model):
    samples = _sampler(make_model(std=0.1), stops=(2, 6)).sample([[3]] * 60, Sampling(max_new_tokens=6), seed=3)
    assert {sample.finish for sample in samples} == {"stop", "length"}
    for sample in samples:
        ids = sample.token_ids.tolist()
        places = [place for place, token in enumerate(ids) if token in (2, 6)]
        assert places == ([len(ids) - 1] if sample.finish == "stop" else [])
        assert sample.finish == "stop" or len(ids) == 6
        assert sample.log_probs.shape == sample.token_ids.shape


def test_every_prompt_may_have_its_own_bound(make_model):
    limits = [0, 1, 5, 3, 0]
    sampler = _sampler(make_model())
    samples = sampler.sample(PROMPTS, Sampling(max_new_tokens=9), seed=4, max_new_tokens=limits)
    assert [len(sample.token_ids) for sample in samples] == limits
    assert all(sample.finish == "length" for sample in samples)
    whole = sampler.sample(PROMPTS, Sampling(max_new_tokens=9), seed=4)
    assert all(
        torch.equal(cut.token_ids, long.token_ids[: len(cut.token_ids)]) for cut, long in zip(samples, whole, strict=True)
    )


def test_a_finished_row_never_asks_for_a_position_beyond_the_context(make_model):
    model = make_model(family="gpt2")
    samples = _sampler(model).sample([[1] * 60, [2]], Sampling(max_new_tokens=60), seed=0, max_new_tokens=[4, 63])
    assert [len(sample.token_ids) for sample in samples] == [4, 63]


def test_ids_beyond_the_shared_vocabulary_are_never_drawn(make_model):
    samples = _sampler(make_model(vocab=40, std=0.05), vocab=5).sample([[3]] * 40, Sampling(max_new_tokens=10), seed=5)
    assert {int(token) for sample in samples for token in sample.token_ids} == set(range(5))


def test_few_logits_at_a_time_give_the_same_responses(make_model, monkeypatch):
    model, sampling = make_model(), Sampling(max_new_tokens=10)
    whole = _sampler(model).sample(PROMPTS, sampling, seed=6)
    monkeypatch.setattr("tutelage.rollouts.sampler._LOGITS_AT_ONCE", 24)
    assert all(_same(one, other) for one, other in zip(_sampler(model).sample(PROMPTS, sampling, seed=6), whole, strict=True))


def test_no_prompts_give_no_responses(make_model):
    assert _sampler(make_model()).sample([], Sampling(), seed=0) == []


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_put_back_also_after_a_failure(make_model, training):
    model = make_model()
    model.model.train(training)
    _sampler(model).sample([[1]], Sampling(max_new_tokens=2), seed=0)
    assert model.model.training is training
    with pytest.raises(IndexError):
        _sampler(model).sample([[99]], Sampling(max_new_tokens=2), seed=0)
    assert model.model.training is training


def test_dropout_is_off_while_sampling(make_model):
    model = make_model(family="gpt2")
    model.model.train()
    sampled = _sampler(model).sample([[1, 2]], Sampling(max_new_tokens=8), seed=0)[0]
    model.model.eval()
    expected = _fresh_log_probs(model, [1, 2], sampled.token_ids, 12).gather(-1, sampled.token_ids.unsqueeze(-1))
    torch.testing.assert_close(sampled.log_probs, expected.squeeze(-1), atol=1e-5, rtol=0)


def test_log_probabilities_can_enter_a_gradient(make_model):
    sample = _sampler(make_model()).sample([[1]], Sampling(max_new_tokens=3), seed=0)[0]
    weight = torch.ones(3, requires_grad=True)
    (weight * sample.log_probs).sum().backward()
    torch.testing.assert_close(weight.grad, sample.log_probs)


def test_reduced_precision_is_that_of_the_models_forward(make_model):
    model = make_model(std=0.1)
    sampler = CachedSampler(model, vocab=12, stop_token_ids=frozenset(), autocast=torch.bfloat16)
    sample = sampler.sample([[1, 2, 3]], Sampling(max_new_tokens=6), seed=0)[0]
    exact = _fresh_log_probs(model, [1, 2, 3], sample.token_ids, 12).gather(-1, sample.token_ids.unsqueeze(-1)).squeeze(-1)
    gap = (sample.log_probs - exact).abs().max()
    assert 1e-6 < gap < 0.1
    assert sample.log_probs.dtype == torch.float32


def test_a_prompt_that_does_not_fit_into_the_context_is_refused(make_model):
    sampler = _sampler(make_model())
    assert len(sampler.sample([[1] * 60], Sampling(max_new_tokens=4), seed=0)[0].token_ids) == 4
    with pytest.raises(DataError, match=r"Prompt 1 of this call has 60 tokens and its response may have 5.*at most 64"):
        sampler.sample([[1], [1] * 60], Sampling(max_new_tokens=5), seed=0)


def test_an_empty_prompt_is_refused(make_model):
    with pytest.raises(DataError, match="Prompt 0 of this call has no tokens"):
        _sampler(make_model()).sample([[]], Sampling(max_new_tokens=5), seed=0)


def test_logits_that_are_not_finite_name_the_prompt_and_the_token(make_model):
    model = make_model()
    with torch.no_grad():
        model.model.get_input_embeddings().weight[7] = torch.nan
    with pytest.raises(NumericsError, match="prompt 1 of this call, at response token 0"):
        _sampler(model, vocab=6).sample([[3], [7]], Sampling(max_new_tokens=2), seed=0)


def test_a_real_model_continues_its_stories_as_it_writes_them_itself(data_folder):
    teacher = load(ModelSource(path=str(data_folder / "models" / "stories260K")), role="teacher")
    rows = (data_folder / "models" / "stories260K" / "samples_t1.jsonl").read_text().splitlines()[:8]
    prompts = [teacher.tokenizer(json.loads(row)["text"].split(".")[0] + ".")["input_ids"] for row in rows]
    samples = _sampler(teacher, vocab=512, stops=(2,)).sample(prompts, Sampling(temperature=0.0, max_new_tokens=16), seed=0)
    for prompt, sample in zip(prompts, samples, strict=True):
        ids = torch.tensor([prompt])
        written = teacher.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False, pad_token_id=2
        )[0, len(prompt) :]
        assert sample.token_ids.tolist() == written.tolist()


@pytest.mark.parametrize(
    "changes", [{"n": 0}, {"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}]
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match="Sampling needs"):
        Sampling(**changes)

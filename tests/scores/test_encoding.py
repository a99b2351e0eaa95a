"""What comes back from the fixed-point numbers, against the log-probabilities that went in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.errors import ConfigError
from tutelage.scores import ERROR_NATS, Entry, Request, decode_top, encode_top, key_of
from tutelage.scores.encoding import LOWEST_NATS
from tutelage.scores.shards import decode, encode


def teachers(seed: int, *, scale: float, vocab: int = 500, tokens: int = 40) -> np.ndarray:
    """Log-probabilities, exact to float64."""
    logits = np.random.default_rng(seed).normal(size=(tokens, vocab)) * scale
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def top(log_probs: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.argsort(-log_probs, axis=-1)[:, :k]
    return ids, np.take_along_axis(log_probs, ids, -1)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 9.0), k=st.sampled_from([1, 2, 8, 32, 499, 500]))
def test_every_entry_comes_back_within_the_stated_bound(seed, scale, k):
    ids, exact = top(teachers(seed, scale=scale), k)
    kept, drops, tail = encode_top(ids, exact)
    assert np.array_equal(kept, ids)
    rounding = 64 * np.finfo(np.float32).eps
    assert np.abs(decode_top(drops, tail) - np.maximum(exact, LOWEST_NATS)).max() <= ERROR_NATS + rounding


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 9.0), k=st.sampled_from([1, 2, 8, 32]))
def test_what_is_left_for_all_other_entries_is_exact_also_where_almost_nothing_is(seed, scale, k):
    ids, exact = top(teachers(seed, scale=scale), k)
    _, drops, tail = encode_top(ids, exact)
    true = -np.expm1(np.logaddexp.reduce(exact, axis=-1))
    left = 1.0 - np.exp(decode_top(drops, tail).astype(np.float64)).sum(axis=-1)
    noise = 1e-6  # of float32 log-probabilities near zero; plain rounding would leave 5e-4
    assert np.all(np.abs(left - true) <= true * np.expm1(ERROR_NATS) + noise)


def test_entries_may_come_in_any_order_and_go_out_likeliest_first():
    ids, exact = top(teachers(3, scale=2.0), 8)
    order = np.random.default_rng(0).permuted(np.tile(np.arange(8), (len(ids), 1)), axis=1)
    shuffled = encode_top(np.take_along_axis(ids, order, 1), np.take_along_axis(exact, order, 1))
    for given_, sorted_ in zip(shuffled, encode_top(ids, exact), strict=True):
        assert np.array_equal(given_, sorted_)


def test_the_impossible_stays_impossible_and_the_very_unlikely_stays_possible():
    exact = np.array([[np.log(0.5), np.log(0.5), -200.0, -np.inf]])
    found = decode_top(*encode_top(np.arange(4)[None], exact)[1:])
    assert np.isneginf(found[0, 3])
    assert found[0, 2] == pytest.approx(LOWEST_NATS, abs=ERROR_NATS)
    assert found[0, :2] == pytest.approx(np.log(0.5), abs=ERROR_NATS)


def test_entries_survive_the_file_they_are_written_to():
    ids, exact = top(teachers(5, scale=3.0), 4)
    ids, drops, tail = encode_top(ids, exact)
    entries = {
        b"a" * 16: Entry(
            teacher="t", request="top_k-4", tokens=40, sampled=exact[:, 0].astype("f4"), ids=ids, drops=drops, tail=tail
        ),
        b"b" * 16: Entry(teacher="u", request="sampled", tokens=2, sampled=np.array([-0.25, -np.inf], dtype="f4")),
        b"c" * 16: Entry(teacher="u", request="hidden", tokens=2, hidden=bytes(range(16)), hidden_dtype="bfloat16"),
    }
    found = decode(encode(entries))
    assert list(found) == list(entries)
    for key, entry in entries.items():
        for name in ("teacher", "request", "tokens", "hidden", "hidden_dtype"):
            assert getattr(found[key], name) == getattr(entry, name)
        for name in ("sampled", "ids", "drops", "tail"):
            assert getattr(found[key], name).dtype == getattr(entry, name).dtype
            assert np.array_equal(getattr(found[key], name).ravel(), getattr(entry, name).ravel())
    assert found[b"a" * 16].ids.shape == (40, 4)


def test_anything_that_decides_a_score_makes_another_key():
    given_ = {"vocab": 100, "prompt_ids": [1, 2], "response_ids": [3, 4], "positions": [0, 1]}
    base = key_of("teacher", Request(kind="sampled"), **given_)
    others = [
        key_of("another", Request(kind="sampled"), **given_),
        key_of("teacher", Request(kind="top_k", k=32), **given_),
        key_of("teacher", Request(kind="top_k", k=33), **given_),
        key_of("teacher", Request(kind="hidden"), **given_),
        key_of("teacher", Request(kind="sampled"), **{**given_, "vocab": 101}),
        key_of("teacher", Request(kind="sampled"), **{**given_, "prompt_ids": [1], "response_ids": [2, 3, 4]}),
        key_of("teacher", Request(kind="sampled"), **{**given_, "response_ids": [4, 3]}),
        key_of("teacher", Request(kind="sampled"), **{**given_, "positions": [1]}),
    ]
    assert len({base, *others}) == 9
    assert key_of("teacher", Request(kind="sampled"), **given_) == base


def test_a_request_without_its_k_is_refused():
    with pytest.raises(ConfigError, match="k >= 1"):
        Request(kind="top_k")
    with pytest.raises(ConfigError, match="k >= 1"):
        Request(kind="sampled", k=3)

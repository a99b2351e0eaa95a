from itertools import combinations

import pytest

from tables import chance, world
from tutelage.errors import ConfigError
from tutelage.lab.exact import Size, make


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize(("vocab", "length"), [(2, 1), (3, 3), (4, 2)])
def test_the_responses_are_all_there_are(vocab, length, end):
    given = world(vocab, length, end=end, num_prompts=2)
    assert len(given.responses) == len(set(given.responses)) == given.size.num_responses
    for prompt in range(2):
        assert sum(chance(given, y, prompt=prompt) for y in range(len(given.responses))) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("end", [False, True])
def test_two_responses_share_a_row_exactly_as_long_as_they_share_their_beginning(end):
    given = world(3, 3, end=end, num_prompts=2)
    rows = set()
    for first, second in combinations(range(len(given.responses)), 2):
        one, other = given.path(0, first).tolist(), given.path(0, second).tolist()
        for time, (row, another) in enumerate(zip(one, other, strict=False)):
            assert (row == another) == (given.responses[first][:time] == given.responses[second][:time])
        rows |= {*one, *other}
        assert not rows & set(given.path(1, first).tolist())
    assert rows == set(range(given.size.num_prefixes))


def test_an_end_ends_a_response_and_nothing_comes_after_it():
    given = world(3, 3, end=True)
    assert all(2 not in response[:-1] for response in given.responses)
    assert all(len(response) == 3 or response[-1] == 2 for response in given.responses)
    assert world(3, 3).size.end_id is None


def test_a_seed_decides_the_tables_and_distance_zero_makes_the_teacher_the_student():
    size = Size(vocab=3, length=2)
    assert make(size, seed=1).student.equal(make(size, seed=1, teachers=("teacher", "other")).student)
    assert make(size, seed=1).teachers["teacher"].equal(make(size, seed=1, teachers=("teacher", "other")).teachers["teacher"])
    assert not make(size, seed=1).student.equal(make(size, seed=2).student)
    assert make(size, distance=0.0).teachers["teacher"].equal(make(size).student)


@pytest.mark.parametrize("wrong", [{"vocab": 1}, {"length": 0}, {"num_prompts": 0}])
def test_worlds_without_a_choice_are_refused(wrong):
    with pytest.raises(ConfigError, match="vocab >= 2"):
        Size(**wrong)
    with pytest.raises(ConfigError, match="distance >= 0"):
        make(Size(), distance=-1.0)


def test_a_world_too_large_to_list_is_refused_before_anything_is_listed():
    with pytest.raises(ConfigError, match=r"970,299 responses.*Lower --vocab or --length"):
        Size(vocab=99, length=3)
    assert Size(vocab=6, length=5).num_responses == 6**5

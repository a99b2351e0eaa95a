"""Many small shards become few: whatever happens meanwhile, every score that was acknowledged is found."""

import errno
import os
import signal
import subprocess
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scores.test_store import entry, full_disk, key, numbers, store, writer

from tutelage.scores import Entry, Shard, disk, encode_top, shards
from tutelage.scores.merging import copies, groups, read_whole, write_merged

MANY = 12


def files(folder: Path) -> list[Path]:
    return sorted((folder / "shards-1").glob("*.parquet"))


def fill(folder: Path, count: int = MANY) -> None:
    """So many shards, each with one response and a later time of use than the one before."""
    for number in range(count):
        store(folder, clock=lambda: 1000.0 + number).put({key(number): entry(number)})  # noqa: B023  # called at once


def everything(count: int = MANY) -> dict[int, float]:
    return {number: -float(number) for number in range(count)}


def scored(number: int) -> Entry:
    """All that an entry may hold, in sizes of its own."""
    random, tokens = np.random.default_rng(number), 1 + number % 5
    logits = random.standard_normal((tokens, 40))
    exact = np.sort(logits - np.log(np.exp(logits).sum(-1, keepdims=True)), axis=-1)[:, ::-1][:, :6]
    ids, drops, tail = encode_top(random.integers(0, 1000, exact.shape), exact)
    return Entry(
        teacher=f"teacher {number % 3}",
        request="top_k-6",
        tokens=tokens,
        sampled=exact[:, 0].astype(np.float32),
        ids=ids,
        drops=drops,
        tail=tail,
        hidden=random.bytes(8 * tokens),
        hidden_dtype="bfloat16",
    )


def equal(one: Entry, other: Entry) -> bool:
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Entry))


def test_every_field_of_every_entry_comes_back_from_the_merged_shard_as_it_was(tmp_path):
    made = {key(number): scored(number) for number in range(300)}
    one, other = store(tmp_path), store(tmp_path)
    for start in range(0, 300, 25):
        one.put({name: made[name] for name in list(made)[start : start + 25]})
    assert other.get([key(7)])
    assert one.merge() == 12
    assert len(files(tmp_path)) == 1
    assert one.verify(drop=False).damaged == ()
    for reader in (one, other, store(tmp_path)):  # who merged, who knew the old shards, who knows nothing
        found = reader.get(made)
        assert found.keys() == made.keys()
        assert all(equal(found[name], made[name]) for name in made)
    assert one.merge() == 0


def test_each_group_of_responses_is_read_once_however_many_there_are_and_in_whatever_order_they_are_asked_for(
    tmp_path, monkeypatch
):
    store(tmp_path).put({key(n): entry(n) for n in range(600)})
    monkeypatch.setattr(disk, "GROUPS_IN_MEMORY", 2)
    read, whole = list[int](), disk.read_rows
    monkeypatch.setattr(disk, "read_rows", lambda path, place: read.append(place) or whole(path, place))
    order = np.random.default_rng(0).permutation(600)
    assert len(store(tmp_path).get([key(int(n)) for n in order])) == 600
    assert sorted(read) == list(range(-(-600 // shards.ROWS_AT_ONCE)))


def test_what_two_runs_both_asked_for_is_kept_once(tmp_path):
    for _ in range(2):
        store(tmp_path).put({key(n): entry(n) for n in range(5)} | {key(99): entry(99)})
    store(tmp_path).put({key(7): entry(7)})
    store(tmp_path).merge()
    (file,) = files(tmp_path)
    held = shards.read_columns(file, ["key"])["key"]
    assert sorted(held) == sorted(key(n) for n in (0, 1, 2, 3, 4, 7, 99))


@given(st.lists(st.integers(1, 120), max_size=30))
def test_groups_are_neighbours_in_the_order_of_use_and_stay_within_the_bound(sizes):
    listed = [Shard(path=Path(f"{place}"), bytes=size, used=float(place)) for place, size in enumerate(sizes)]
    found = groups(listed, most_bytes=100)
    for group in found:
        first = listed.index(group[0])
        assert group == listed[first : first + len(group)]
        assert len(group) > 1
        assert sum(shard.bytes for shard in group) <= 100
        assert all(shard.bytes <= 50 for shard in group)
    chosen = [shard.name for group in found for shard in group]
    assert len(chosen) == len(set(chosen))
    for one, other in pairwise(listed):  # two that would fit together are not both left alone
        if one.bytes <= 50 and other.bytes <= 50 and one.name not in chosen:
            assert other.name in chosen or one.bytes + other.bytes > 100


def test_after_a_merge_what_was_used_last_is_still_evicted_last(tmp_path):
    fill(tmp_path, 40)
    size = max(path.stat().st_size for path in files(tmp_path))
    order = np.random.default_rng(0).permutation(40)
    for place, shard in enumerate(order):  # used in another order than they were written in
        os.utime(files(tmp_path)[shard], (2000.0 + place,) * 2)
    merging = store(tmp_path, disk.SHARE_OF_BOUND * 5 * size, clock=lambda: 3000.0)
    assert merging.merge() == 40
    assert 1 < len(files(tmp_path)) <= 40 // 4
    total = sum(path.stat().st_size for path in files(tmp_path))
    for share in (0.8, 0.5, 0.3):
        merging.prune(int(share * total))
        left = set(numbers(store(tmp_path, clock=lambda: 3000.0).get([key(n) for n in range(40)])))
        assert left == {int(n) for n in order[40 - len(left) :]}, "the last of the order of use"
        assert 0 < len(left) < 40
        for place, shard in enumerate(order):  # looking was no use
            for path in files(tmp_path):
                if key(int(shard)) in shards.read_columns(path, ["key"])["key"]:
                    os.utime(path, (2000.0 + place,) * 2)


def test_a_writer_merges_by_itself_when_many_small_shards_have_gathered(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "MERGED_AT_ONCE", 8)
    one, most = store(tmp_path), 0
    for number in range(50):
        one.put({key(number): entry(number)})
        most = max(most, len(files(tmp_path)))
    assert most < 8
    for reader in (one, store(tmp_path)):
        assert numbers(reader.get([key(n) for n in range(50)])) == everything(50)


DYING = """
import os, signal, sys
from pathlib import Path
from tests.scores.test_store import store
left = int(sys.argv[2])
def counted(owner, name):
    whole = getattr(owner, name)
    def call(*inputs, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return whole(*inputs, **options)
    setattr(owner, name, call)
one = store(Path(sys.argv[1]))
for owner, name in ((os, "fsync"), (Path, "rename"), (os, "utime"), (Path, "unlink")):
    counted(owner, name)
one.merge()
"""


def child(code: str, *arguments: object) -> subprocess.Popen:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}", "OMP_NUM_THREADS": "1"},
    )


STAGES = {
    "nothing is on the disk": (0, MANY, 1),
    "written, not yet named": (1, MANY, 1),
    "named, its folder not yet on the disk": (2, MANY + 1, 0),
    "nothing is removed": (4, MANY + 1, 0),
    "half of it is removed": (4 + MANY // 2, MANY // 2 + 1, 0),
    "one is left to remove": (4 + MANY - 1, 2, 0),
}
"""What a merge has done when it is killed -> calls of the system before that, and whole and temporary files that are left."""


@pytest.mark.parametrize("stage", STAGES)
def test_a_merge_that_is_killed_anywhere_loses_nothing_and_the_next_one_finishes_it(tmp_path, stage):
    calls, whole, temporary = STAGES[stage]
    fill(tmp_path)
    with child(DYING, tmp_path, calls) as process:
        process.wait(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert len(files(tmp_path)) == whole
    assert len(list((tmp_path / "shards-1").iterdir())) == whole + temporary
    found = store(tmp_path)
    assert numbers(found.get([key(n) for n in range(MANY)])) == everything()
    assert found.verify(drop=False).damaged == ()
    found.merge()
    assert len(files(tmp_path)) == 1
    assert numbers(found.get([key(n) for n in range(MANY)])) == everything()


MERGER = """
import sys
from pathlib import Path
from tests.scores.test_store import entry, key, store
one = store(Path(sys.argv[1]))
for batch in range(int(sys.argv[3])):
    mine = [int(sys.argv[2]) + 3 * batch + n for n in range(3)]
    one.put({key(n): entry(n) for n in mine})
    print(*mine, flush=True)
    one.merge()
"""


def test_a_reader_finds_all_that_was_acknowledged_while_another_process_merges(tmp_path):
    reader, said = store(tmp_path), list[int]()
    with child(MERGER, tmp_path, 0, 40) as process:
        for line in process.stdout:
            said += [int(number) for number in line.split()]
            for one in (reader, store(tmp_path)):
                assert numbers(one.get([key(n) for n in said])) == {n: -float(n) for n in said}
    assert process.returncode == 0
    assert len(said) == 120
    assert len(files(tmp_path)) == 1


def test_two_processes_that_merge_at_once_and_one_that_writes_lose_nothing(tmp_path):
    running = [child(MERGER, tmp_path, 0, 30), child(MERGER, tmp_path, 10_000, 30), writer(tmp_path, 20_000, 15)]
    said = [int(number) for process in running for number in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(said) == 2 * 30 * 3 + 15 * 7
    last = store(tmp_path)
    assert numbers(last.get([key(n) for n in said])) == {n: -float(n) for n in said}
    last.merge()
    assert len(files(tmp_path)) == 1
    assert numbers(store(tmp_path).get([key(n) for n in said])) == {n: -float(n) for n in said}


def test_of_two_equal_merged_shards_the_earlier_one_goes_and_only_where_the_later_one_is_whole(tmp_path):
    fill(tmp_path)
    sources = {path.name: read_whole(path) for path in files(tmp_path)}
    first, second = (write_merged(tmp_path / "shards-1", sources)[0] for _ in range(2))
    assert max(sources) < first.name < second.name
    assert copies(shards.list_shards(tmp_path / "shards-1")) == {first.name: second.name}
    for name in sources:
        (tmp_path / "shards-1" / name).unlink()
    content = second.path.read_bytes()
    second.path.write_bytes(content[:-1])
    store(tmp_path).merge()
    assert first.path in files(tmp_path), "the other one is damaged"
    second.path.write_bytes(content)
    store(tmp_path).merge()
    assert files(tmp_path) == [second.path]
    assert numbers(store(tmp_path).get([key(n) for n in range(MANY)])) == everything()


def test_a_merged_shard_has_a_later_name_than_its_sources_also_where_the_clock_is_behind(tmp_path, monkeypatch):
    fill(tmp_path)
    monkeypatch.setattr(shards.time, "time_ns", lambda: 1)
    before = files(tmp_path)
    store(tmp_path).merge()
    (after,) = files(tmp_path)
    assert after.name > max(path.name for path in before)


def test_a_reader_whose_shard_is_merged_between_its_look_and_its_read_finds_the_scores_in_the_new_one(tmp_path, monkeypatch):
    fill(tmp_path)
    reader, whole, merged = store(tmp_path), disk.is_whole, list[int]()

    def late(path):
        if not merged:
            merged.append(store(tmp_path).merge())
        return whole(path)

    assert numbers(reader.get([key(0)])) == {0: 0.0}
    monkeypatch.setattr(disk, "is_whole", late)
    assert numbers(reader.get([key(n) for n in range(MANY)])) == everything()
    assert merged == [MANY]


def test_a_listing_in_which_a_shard_has_gone_and_its_successor_is_not_yet_seen_is_not_believed(tmp_path, monkeypatch):
    """As when a folder is read entry by entry while somebody adds behind the reader and removes before him."""
    fill(tmp_path)
    listing, calls = os.listdir, list[int]()

    def torn(folder):
        calls.append(1)
        if len(calls) > 1:
            return listing(folder)
        before = set(listing(folder))
        store(tmp_path).merge()
        return [name for name in listing(folder) if name in before]

    monkeypatch.setattr(shards.os, "listdir", torn)
    assert numbers(store(tmp_path).get([key(n) for n in range(MANY)])) == everything()


def test_a_damaged_shard_is_dropped_and_the_others_are_merged_without_it(tmp_path, caplog):
    fill(tmp_path)
    bad = files(tmp_path)[3]
    bad.write_bytes(bad.read_bytes()[:-1] + b"x")
    assert store(tmp_path).merge() == MANY - 1
    assert "dropped" in caplog.text
    assert numbers(store(tmp_path).get([key(n) for n in range(MANY)])) == {n: v for n, v in everything().items() if n != 3}
    assert len(files(tmp_path)) == 1


def test_on_a_full_disk_a_merge_leaves_all_shards_where_they_were(tmp_path, monkeypatch):
    fill(tmp_path)
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shards.os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            store(tmp_path).merge()
    assert sorted((tmp_path / "shards-1").iterdir()) == before
    with monkeypatch.context() as patch:  # a writer goes on where only the merged shard has no room
        patch.setattr(disk, "MERGED_AT_ONCE", 2)
        patch.setattr(disk, "write_merged", full_disk)
        store(tmp_path).put({key(MANY): entry(MANY)})
    assert numbers(store(tmp_path).get([key(n) for n in range(MANY + 1)])) == everything(MANY + 1)


def test_where_old_shards_cannot_be_removed_a_process_merges_once_and_not_again_and_again(tmp_path, monkeypatch):
    fill(tmp_path)
    one = store(tmp_path)

    def refused(self, missing_ok=False):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "unlink", refused)
    assert one.merge() == MANY
    assert one.merge() == 0
    assert len(files(tmp_path)) == MANY + 1
    assert numbers(one.get([key(n) for n in range(MANY)])) == everything()

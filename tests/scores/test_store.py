"""The folder of scores under use, misuse and violence: what was put in, and what a process said before it was killed."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tutelage.errors import CacheError, ConfigError
from tutelage.scores import DiskStore, Entry, MemoryStore, ScoreCache, ScoreStore, shards

PLENTY = 1 << 30


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def entry(number: int, tokens: int = 5) -> Entry:
    """Scores that say which number they belong to."""
    return Entry(teacher="t", request="sampled", tokens=tokens, sampled=np.full(tokens, -float(number), dtype=np.float32))


def numbers(found: dict[bytes, Entry]) -> dict[int, float]:
    return {int.from_bytes(name, "big"): float(one.sampled[0]) for name, one in found.items()}


def store(folder: Path, max_bytes: int = PLENTY, **options) -> DiskStore:
    return DiskStore(folder, max_bytes=max_bytes, **options)


def only_shard(folder: Path) -> Path:
    (path,) = folder.rglob("*.parquet")
    return path


def test_what_is_kept_is_found_again_by_this_and_by_the_next_process(tmp_path):
    first = store(tmp_path)
    first.put({key(n): entry(n) for n in range(200)})
    expected = {n: -float(n) for n in (0, 63, 64, 199)}
    for one in (first, store(tmp_path)):
        assert numbers(one.get([key(n) for n in (0, 63, 64, 199, 200)])) == expected
    assert isinstance(first, ScoreStore)


def test_a_store_in_memory_is_the_same_after_a_checkpoint(tmp_path):
    import torch

    first, second = MemoryStore(), MemoryStore()
    first.put({key(n): entry(n, tokens=n + 1) for n in range(3)})
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert numbers(second.get([key(n) for n in range(4)])) == {0: 0.0, 1: -1.0, 2: -2.0}
    assert [one.tokens for one in second.get([key(2)]).values()] == [3]


def test_two_runs_that_share_a_folder_see_what_the_other_wrote(tmp_path):
    one, other = store(tmp_path), store(tmp_path)
    one.put({key(1): entry(1)})
    assert numbers(other.get([key(1)])) == {1: -1.0}
    other.put({key(2): entry(2), key(1): entry(1)})
    assert numbers(one.get([key(1), key(2)])) == {1: -1.0, 2: -2.0}


@pytest.mark.parametrize("seed", range(5))
def test_shards_are_evicted_in_the_order_of_their_last_use(tmp_path, seed):
    """Against a list that is kept in the order of use."""
    random, now = np.random.default_rng(seed), [0.0]
    one = store(tmp_path, clock=lambda: now[0])
    one.put({key(0): entry(0)})
    size = only_shard(tmp_path).stat().st_size
    bound = 5 * size + size // 2
    one = store(tmp_path, bound, clock=lambda: now[0])
    used = [0]
    for number in range(1, 40):
        now[0] += 1.0
        if random.random() < 0.5:
            chosen = int(random.choice(used))
            reader = store(tmp_path, bound, clock=lambda: now[0])  # as another run, so that it reads from the disk
            assert numbers(reader.get([key(chosen)])) == {chosen: -float(chosen)}
            used.remove(chosen)
            used.append(chosen)
        now[0] += 1.0
        one.put({key(number): entry(number)})
        used = [*used, number][-5:]
        assert set(numbers(store(tmp_path).get([key(n) for n in range(number + 1)]))) == set(used)
        for shard in shards.list_shards(tmp_path / "shards-1"):  # looking everything up was no use
            held = int.from_bytes(shards.read_columns(shard.path, ["key"])["key"][0], "big")
            os.utime(shard.path, (float(used.index(held)) - 100.0,) * 2)
        assert sum(shard.bytes for shard in one.shards()) <= bound


def test_a_shard_larger_than_the_bound_stays_until_the_next_is_written(tmp_path):
    one = store(tmp_path, 1)
    one.put({key(1): entry(1)})
    assert numbers(one.get([key(1)])) == {1: -1.0}
    one.put({key(2): entry(2)})
    assert numbers(one.get([key(1), key(2)])) == {2: -2.0}


def test_scores_that_another_run_evicts_are_missing_and_no_error(tmp_path):
    one, other = store(tmp_path), store(tmp_path)
    one.put({key(1): entry(1)})
    one.put({key(2): entry(2)})
    assert other.prune(0) > 0
    assert one.get([key(1), key(2)]) == {}


@pytest.mark.parametrize("place", [0.02, 0.3, 0.5, 0.7, 0.98])
def test_a_flipped_byte_anywhere_is_noticed_and_the_shard_is_dropped_with_a_warning(tmp_path, caplog, place):
    store(tmp_path).put({key(n): entry(n) for n in range(100)})
    path = only_shard(tmp_path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x10
    path.write_bytes(content)
    found = store(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert found.get([key(n) for n in range(100)]) == {}
    assert not path.exists()
    assert "dropped" in caplog.text
    found.put({key(3): entry(3)})
    assert numbers(found.get([key(3)])) == {3: -3.0}


@pytest.mark.parametrize("length", [0, 3, 500])
def test_a_shard_that_was_cut_short_is_dropped(tmp_path, length):
    store(tmp_path).put({key(n): entry(n) for n in range(100)})
    path = only_shard(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert store(tmp_path).get([key(1)]) == {}
    assert not path.exists()


def test_where_two_shards_hold_the_same_a_damaged_one_costs_nothing(tmp_path):
    store(tmp_path).put({key(1): entry(1)})
    store(tmp_path).put({key(1): entry(1)})
    for damaged in sorted(tmp_path.rglob("*.parquet")):
        found = store(tmp_path)
        damaged.write_bytes(damaged.read_bytes()[:-1])
        assert numbers(found.get([key(1)])) == {1: -1.0}
        found.put({key(1): entry(1)})


def test_verify_names_the_damaged_shards_and_removes_them_when_asked(tmp_path):
    one = store(tmp_path)
    for n in range(3):
        one.put({key(n): entry(n)})
    bad = sorted(tmp_path.rglob("*.parquet"))[1]
    bad.write_bytes(b"x" + bad.read_bytes()[1:])
    for drop in (False, True):
        found = store(tmp_path).verify(drop=drop)
        assert (found.whole, found.damaged) == (2, (bad.name,))
    assert store(tmp_path).verify(drop=False).damaged == ()
    assert set(numbers(store(tmp_path).get([key(n) for n in range(3)]))) == {0, 2}


WRITER = """
import sys
from tests.scores.test_store import entry, key, store
from pathlib import Path
one = store(Path(sys.argv[1]))
for batch in range(int(sys.argv[3])):
    mine = [int(sys.argv[2]) + 7 * batch + n for n in range(7)]
    one.put({key(n): entry(n) for n in mine})
    print(*mine, flush=True)
"""


def writer(folder: Path, first: int, batches: int) -> subprocess.Popen:
    """A process that writes, and says of each batch when it is written."""
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(first), str(batches)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}", "OMP_NUM_THREADS": "1"},
    )


def test_what_a_writer_had_acknowledged_survives_its_sigkill(tmp_path):
    process = writer(tmp_path, 0, 10**6)
    with process:
        said = [process.stdout.readline() for _ in range(12)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.read().splitlines()
    assert process.returncode == -signal.SIGKILL
    acknowledged = [int(number) for line in said for number in line.split()]
    found = store(tmp_path)
    assert numbers(found.get([key(n) for n in acknowledged])) == {n: -float(n) for n in acknowledged}
    assert found.verify(drop=False).damaged == ()
    started = time.monotonic()
    found.put({key(-1 % 2**64): entry(1)})  # the dead writer left no lock
    assert time.monotonic() - started < 5.0


def test_two_processes_that_write_at_once_lose_nothing(tmp_path):
    both = [writer(tmp_path, first, 15) for first in (0, 10_000)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    everything = [int(number) for text in said for number in text.split()]
    assert len(everything) == 2 * 15 * 7
    assert numbers(store(tmp_path).get([key(n) for n in everything])) == {n: -float(n) for n in everything}


def test_what_a_killed_writer_left_half_written_is_never_read_and_removed_later(tmp_path):
    store(tmp_path).put({key(1): entry(1)})
    whole = only_shard(tmp_path)
    half = whole.with_name(f".{whole.name}.writing")
    half.write_bytes(whole.read_bytes()[:50])
    assert numbers(store(tmp_path).get([key(1)])) == {1: -1.0}
    assert half.exists(), "its writer may be alive"
    later = time.time() + 2 * shards.ABANDONED_SECONDS
    store(tmp_path, clock=lambda: later)
    assert not half.exists()


def full_disk(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_on_a_full_disk_a_write_fails_at_once_and_leaves_nothing_behind(tmp_path, monkeypatch):
    one = store(tmp_path)
    one.put({key(1): entry(1)})
    with monkeypatch.context() as patch:
        patch.setattr(shards.os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            one.put({key(2): entry(2)})
    assert [path.name for path in (tmp_path / "shards-1").iterdir()] == [only_shard(tmp_path).name]
    assert numbers(one.get([key(1), key(2)])) == {1: -1.0}
    one.put({key(2): entry(2)})
    assert numbers(one.get([key(1), key(2)])) == {1: -1.0, 2: -2.0}


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"--scores\.folder"):
        store(tmp_path / "file" / "cache").get([key(1)])


def test_a_store_that_was_never_written_is_empty(tmp_path):
    found = store(tmp_path / "nothing")
    assert found.get([key(1)]) == {}
    found.put({})
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("wrong", [{"folder": ""}, {"folder": "f", "max_gib": 0.0}, {"folder": "f", "k": 0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError):
        ScoreCache(**wrong)


def test_the_command_line_can_read_a_cache_without_torch():
    code = "import sys, json, tutelage.scores; print(json.dumps('torch' in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) is False

"""Weights by the server's own engine, without a GPU: over gloo, to a process that knows only what it is told."""

import logging
import shutil
from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import load_file
from tests.pairs import Pair, make_pair
from tests.serving.conftest import HASTY, QUICK
from tests.serving.fake import FakeServer
from tests.serving.receiver import GlooGroup, Worker

from tutelage.errors import ConfigError, ServerError
from tutelage.models import LanguageModel, Lora, ModelSource, load
from tutelage.rollouts import served_copy
from tutelage.rollouts.sampler_parts import ServedStudent
from tutelage.rollouts.served_copy import ServedCopy
from tutelage.rollouts.sources import Sampling
from tutelage.serving import Transport, engine
from tutelage.serving.control import Control
from tutelage.serving.engine import ByEngine, Group, NcclGroup, packs
from tutelage.serving.transfer import ByFolder, Transfer, Weights


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


def student_of(pair: Pair, **settings: object) -> LanguageModel:
    return load(ModelSource(path=str(pair.student), **settings), role="student")  # type: ignore[arg-type]


@pytest.fixture
def server(pair, start) -> FakeServer:
    model = load(ModelSource(path=str(pair.student)), role="teacher")
    return start(model, developer=True, engine="nccl")


@pytest.fixture
def worker(server, pair, tmp_path) -> Iterator[Worker]:
    """Takes part in the transfer; when it is over the server computes with what the worker took."""
    shutil.copytree(pair.student, tmp_path / "taken")
    one = Worker(tmp_path / "taken" / "model.safetensors")

    def answer(path, request):
        reply = one(path, request)
        if path == "/finish_weight_update":
            server.model = load(ModelSource(path=str(tmp_path / "taken")), role="teacher")
        return reply

    server.worker = answer
    yield one
    one.stop()


def control_of(server: FakeServer, patience=QUICK) -> Control:
    return Control(Transport(server.url, patience=patience))


def move(student: LanguageModel) -> None:
    with torch.no_grad():
        for parameter in student.trainable_parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))


@pytest.mark.parametrize("most", [1000, 2**20], ids=["many packs", "one pack"])
def test_what_the_worker_takes_is_what_saving_writes_bit_for_bit(pair, server, worker, tmp_path, monkeypatch, most):
    monkeypatch.setattr(engine, "PACK_BYTES", most)
    student, group = student_of(pair), GlooGroup()
    move(student)
    way = ByEngine(control_of(server), group)
    assert isinstance(group, Group)
    assert isinstance(way, Transfer)
    assert isinstance(student, Weights)
    for _ in range(2):
        move(student)
        way.give(student)
        student.save(tmp_path / "saved")
        expected, found = load_file(tmp_path / "saved" / "model.safetensors"), load_file(worker.file)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (len(group.sizes) == 2) == (most == 2**20)


def test_the_server_is_paused_told_and_rid_of_its_caches_in_this_order(pair, server, worker):
    student = student_of(pair)
    ByEngine(control_of(server), GlooGroup()).give(student)
    paths = [path.partition("?")[0] for path, _ in server.requests]
    assert paths == [
        "/server_info",
        "/get_world_size",
        "/init_weight_transfer_engine",
        "/pause",
        "/start_weight_update",
        "/update_weights",
        "/finish_weight_update",
        "/reset_prefix_cache",
        "/resume",
    ]
    terms = server.requests[2][1]["init_info"]
    assert {"rank_offset": 1, "world_size": 2, "packed": True}.items() <= terms.items()


def test_a_transfer_that_was_not_tried_on_a_gpu_says_so(server, worker, caplog):
    with caplog.at_level(logging.WARNING):
        ByEngine(control_of(server), GlooGroup())
    assert [record.message for record in caplog.records if "not been tried on a GPU" in record.message]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("adapted", [False, True])
def test_the_tensors_of_a_checkpoint_are_those_of_the_file(pair, tmp_path, dtype, adapted):
    student = student_of(pair, dtype=dtype, lora=Lora(rank=2) if adapted else None)
    move(student)
    student.save(tmp_path)
    expected, found = load_file(tmp_path / "model.safetensors"), student.checkpoint_tensors()
    assert found.keys() == expected.keys()
    assert all(found[name].dtype == expected[name].dtype for name in expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_packs_hold_every_byte_in_order_and_end_where_they_grow_too_large():
    turned = torch.arange(6, dtype=torch.float32).view(2, 3).T
    tensors = [torch.arange(5, dtype=torch.float32), torch.ones(3, dtype=torch.bfloat16), turned, torch.tensor(7)]
    found = list(packs(tensors, most_bytes=20))
    assert [pack.numel() for pack in found] == [20 + 6, 24, 8], "the one in the middle is too large by itself"
    assert torch.equal(found[0][:20].view(torch.float32), tensors[0])
    assert found[1].view(torch.float32).tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0], "row by row, as it is read"
    assert list(packs([], most_bytes=20)) == []


def test_without_a_gpu_the_refusal_names_the_way_that_works():
    with pytest.raises(ConfigError, match=r"lies on 'cpu'.*--sampler\.transfer folder"):
        NcclGroup(torch.device("cpu"))


@pytest.mark.parametrize("found", [None, "ipc"])
def test_a_server_that_was_started_without_the_engine_is_refused_with_the_flag(pair, start, found):
    model = load(ModelSource(path=str(pair.student)), role="teacher")
    server = start(model, developer=True, engine=found)
    with pytest.raises(ServerError, match=r"""--weight-transfer-config '{"backend": "nccl"}'"""):
        ByEngine(control_of(server), GlooGroup())
    assert all("weight" not in path for path, _ in server.requests)


class Stuck(GlooGroup):
    """Waits for a server that does not come."""

    def join(self, size: int) -> None:
        super().join(size + 1)


def test_a_server_that_does_not_join_ends_the_call_and_leaves_nobody_waiting(server):
    server.worker = lambda path, request: (500, {"error": {"message": "Weight transfer not configured"}})
    with pytest.raises(ServerError, match=r"not configured.*start the server again"):
        ByEngine(control_of(server, HASTY), Stuck())


class Broken(GlooGroup):
    def broadcast(self, pack: torch.Tensor) -> None:
        raise RuntimeError("NCCL Error 6: remote process exited")


def test_a_broadcast_that_fails_on_this_side_is_reported_in_its_own_words_and_the_server_goes_on(pair, server, worker):
    way = ByEngine(control_of(server), Broken())
    server.worker = lambda path, request: (200, {"message": "done"})
    with pytest.raises(ServerError, match="remote process exited"):
        way.give(student_of(pair))
    assert server.requests[-1][0] == "/resume"


def test_a_served_student_gets_its_weights_by_the_engine_and_they_are_checked_as_ever(pair, server, worker, monkeypatch):
    monkeypatch.setattr(served_copy, "NcclGroup", lambda device: GlooGroup())
    student = student_of(pair, lora=Lora(rank=2))
    part = ServedStudent(url=server.url, patience=QUICK, transfer="nccl")
    copy = ServedCopy(part, student, vocab=19, stop_token_ids=frozenset({17}))
    for _ in range(2):
        move(student)
        with copy.holding(student) as sampler:
            sampler.sample([[1, 10, 1, 11]], Sampling(max_new_tokens=3), seed=0)
        assert copy.figures()["serving/sync_gap_nats"] < 1e-5
    assert all(path != "/collective_rpc" for path, _ in server.requests)
    server.worker = worker  # takes the weights, and the server goes on with those that it has
    move(student)
    with pytest.raises(ServerError, match=r"computes with other weights.*same NCCL"), copy.holding(student):
        raise AssertionError("the server never took the weights as its own")


def test_without_a_gpu_a_served_student_is_refused_before_the_server_is_asked(pair, server):
    part = ServedStudent(url=server.url, patience=QUICK, transfer="nccl")
    with pytest.raises(ConfigError, match=r"--sampler\.transfer folder"):
        ServedCopy(part, student_of(pair), vocab=19, stop_token_ids=frozenset())
    assert not server.requests
    with pytest.raises(ConfigError, match="uses none"):
        ServedStudent(transfer="nccl", folder="weights")


def test_a_folder_is_the_same_exchange_by_another_way(pair, server, tmp_path):
    student = student_of(pair)
    move(student)
    way = ByFolder(control_of(server), tmp_path)
    assert isinstance(way, Transfer)
    way.give(student)
    expected, found = student.checkpoint_tensors(), server.model.checkpoint_tensors()
    assert all(torch.equal(found[name], expected[name]) for name in expected)

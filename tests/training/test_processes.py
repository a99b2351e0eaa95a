"""Several processes with a part of a step each make the update of the whole step."""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tests.pairs import Pair, make_pair
from torch import Tensor, nn

import dense
from tutelage import objectives as o
from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.models import LanguageModel, ModelSource, load
from tutelage.models.sharding import whole
from tutelage.run.assembly import assemble, prompt_order
from tutelage.training.learner import Learner
from tutelage.training.measuring import select
from tutelage.training.processes import add_up_gradients, gather
from tutelage.training.settings import TrainingSettings
from tutelage.types import Author, FullSignal, Head, StepBatch
from tutelage.weighting import EntropyAbove

TERMS = (
    o.Term(name="exact", signal=o.ReverseKL(), weights=(EntropyAbove(quantile=0.4),), reduction=o.SequenceMean()),
    o.Term(name="sampled", signal=o.ScoreFunction(advantage=o.LogRatio(baseline=o.BatchMean()))),
)
SPLITS = {"uneven": [[0, 1, 2], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]], "one has nothing": [list(range(16)), []]}


def together(work: Callable[..., None], folder: Path, *arguments: Any) -> list[Any]:
    """Run a function on two processes; what each saved."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_begin, args=(port, work, folder, *arguments), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _begin(rank: int, port: int, work: Callable[..., Any], folder: Path, *arguments: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(work(rank, *arguments), folder / f"{rank}.pt")
    dist.destroy_process_group()


def updated(pair: Pair, rollouts: list[int]) -> dict[str, Tensor]:
    """The student's weights after a step on some of the step's responses."""
    config = pair.config("opd", pair.data.parent / "unused")
    parts = assemble(config)
    batch = StepBatch.of(parts.writer.write(prompt_order(config, parts)(0), step=0), seed=0, step=0)
    taught = parts.teaching.score(batch)
    rows = taught.batch.rows_of(rollouts)
    learner = Learner(
        parts.student,
        terms=TERMS,
        temperatures=parts.learner.temperatures,
        vocab=parts.report.vocab,
        optimiser=replace(config.optimiser, warmup_steps=0),
        training=TrainingSettings(),
    )
    learner.update(taught.batch.select(rows), select(taught.signals, rows), step=0)
    return {name: value.clone() for name, value in parts.student.trainable_state().items()}


def update_part(rank: int, pair: Pair, split: list[list[int]]) -> dict[str, Tensor]:
    return updated(pair, split[rank])


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS.keys())
def test_two_processes_take_the_step_of_one(tmp_path, split):
    pair = make_pair(tmp_path / "pair")
    alone = updated(pair, list(range(16)))
    before = assemble(pair.config("opd", tmp_path / "unused")).student.trainable_state()
    assert any(not torch.equal(before[name], alone[name]) for name in alone)
    for found in together(update_part, tmp_path, pair, split):
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def shared_step() -> tuple[nn.Module, nn.Linear, dense.Problem]:
    """A small trainable backbone before the head of a dense problem; the same on every process."""
    torch.manual_seed(0)
    given = dense.problem(lengths=(5, 2, 6, 1), bias=True)
    backbone = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 5)).double()
    head = nn.Linear(5, 11).double()
    return backbone, head, given


def share_of_the_loss(rank: int, states: Callable[[Tensor], Tensor], head: Head, given: dense.Problem) -> Tensor:
    """What this process's rows add to the loss of the step: three rows here, eleven there."""
    rows = torch.arange(3) if rank == 0 else torch.arange(3, 14)
    batch = given.batch.select(rows)
    teacher = given.teachers["teacher"]
    assert isinstance(teacher, FullSignal)
    terms = [o.Term(name="a", signal=o.JensenShannon()), o.Term(name="b", signal=o.ScoreFunction(), scale=0.3)]
    return o.evaluate(
        o.plan(terms, batch, gather=gather),
        batch,
        hidden=states(given.hidden.detach()[rows]),
        head=head,
        teachers={"teacher": teacher.select(rows)},
    ).loss


def gradients_alone() -> list[Tensor]:
    """Of the whole step with plain logits on one process."""
    backbone, head, given = shared_step()
    hidden = backbone(given.hidden.detach())
    terms = [o.Term(name="a", signal=o.JensenShannon()), o.Term(name="b", signal=o.ScoreFunction(), scale=0.3)]
    loss = dense.loss(terms, replace(given, hidden=hidden, head=Head(weight=head.weight, bias=head.bias)))
    return list(torch.autograd.grad(loss, [*backbone.parameters(), *head.parameters()]))


def fully_sharded(rank: int) -> list[Tensor]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    backbone, head, given = shared_step()
    mesh = init_device_mesh("cpu", (2,))
    for module in (backbone, head):
        fully_shard(module, mesh=mesh).set_gradient_divide_factor(1.0)  # shares of one loss add up
    assert isinstance(head.weight, DTensor)
    share_of_the_loss(rank, backbone, Head(weight=whole(head.weight), bias=whole(head.bias)), given).backward()
    return [parameter.grad.full_tensor() for module in (backbone, head) for parameter in module.parameters()]


class WholeStep(nn.Module):
    """Backbone and fused head in one forward, as DDP wants it."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.backbone, self.head, self.given = shared_step()
        self.rank = rank

    def forward(self) -> Tensor:
        return share_of_the_loss(self.rank, self.backbone, Head(weight=self.head.weight, bias=self.head.bias), self.given)


def data_parallel(rank: int) -> list[Tensor]:
    from torch.nn.parallel import DistributedDataParallel

    step = DistributedDataParallel(WholeStep(rank))
    (2 * step()).backward()  # DDP takes the mean over two processes, and the shares of one loss add up
    return [parameter.grad.clone() for parameter in step.module.parameters()]


def plainly_added(rank: int) -> list[Tensor]:
    step = WholeStep(rank)
    step().backward()
    add_up_gradients(step.parameters())
    return [parameter.grad.clone() for parameter in step.parameters()]


@pytest.mark.parametrize("way", [fully_sharded, data_parallel, plainly_added])
def test_the_fused_head_has_the_gradient_of_the_whole_step_on_every_process(tmp_path, way):
    expected = gradients_alone()
    for found in together(way, tmp_path):
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-10)


def gathered(rank: int) -> Tensor:
    return gather(torch.arange(3.0) if rank == 0 else torch.empty(0))


def test_vectors_of_different_lengths_are_put_behind_one_another(tmp_path):
    assert [found.tolist() for found in together(gathered, tmp_path)] == [[0.0, 1.0, 2.0]] * 2
    assert gather(torch.arange(2.0)).tolist() == [0.0, 1.0]


def sharded_student(rank: int, folder: str, tie: bool) -> list[Tensor]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    student, ids, teacher = small_student(folder)
    mesh = init_device_mesh("cpu", (2,))
    for module in (student.model.model, *(() if tie else (student.model.lm_head,))):
        sharded = fully_shard(module, mesh=mesh)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo cannot scale while it sums
    if tie:
        student.model.tie_weights()  # the head is the embedding's sharded weight again
    rows = slice(0, 1) if rank == 0 else slice(1, 4)
    student_loss(student, ids[rows], teacher, gather=gather).backward()
    return [parameter.grad.full_tensor() for parameter in student.model.parameters()]


def small_student(folder: str) -> tuple[LanguageModel, Tensor, Head]:
    student = load(ModelSource(path=folder), role="student", device=torch.device("cpu"))
    torch.manual_seed(0)
    vocab = student.head().vocab_size
    return student, torch.randint(vocab, (4, 6)), Head(weight=torch.randn(vocab, 16))


def student_loss(student: LanguageModel, ids: Tensor, teacher: Head, **options: Any) -> Tensor:
    """Reverse KL at every token of given texts, through the model's own head."""
    count, length = ids.shape
    states = student.hidden_states(ids, torch.ones_like(ids), torch.arange(length).expand_as(ids))
    written = [dense.rollout(row.tolist(), [Author.STUDENT] * length, torch.full((length,), -1.0)) for row in ids]
    batch = StepBatch.of(written)
    theirs = torch.linspace(-1.0, 1.0, 16).expand(count * length, 16)
    return o.evaluate(
        o.plan([o.Term(name="loss", signal=o.ReverseKL())], batch, **options),
        batch,
        hidden=states.flatten(0, 1),
        head=student.head(),
        teachers={"teacher": FullSignal(hidden=theirs, head=teacher)},
    ).loss


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "untied"])
def test_a_sharded_transformers_model_has_the_gradients_of_the_whole_one(tmp_path, tie):
    folder = make_model(tmp_path / "student", tokenizer=make_tokenizer("abcdefgh"), shape=Shape(hidden=16, tie=tie), seed=1)
    student, ids, teacher = small_student(str(folder))
    student_loss(student, ids, teacher).backward()
    expected = [parameter.grad for parameter in student.model.parameters()]
    for found in together(sharded_student, tmp_path, str(folder), tie):
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)

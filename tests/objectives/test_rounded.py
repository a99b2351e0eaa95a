"""Products whose logits come out in reduced precision: what is rounded, and how little it matters where tokens are likely."""

from dataclasses import replace

import pytest
import torch

import dense
from tutelage import objectives as o
from tutelage.objectives.fused import Budget
from tutelage.objectives.projection import Projection
from tutelage.types import FullSignal, Head


def confident(*, softcap: float | None = None, bias: bool = False) -> dense.Problem:
    """Logits of tens of nats, as real models have, in numbers that bfloat16 holds exactly: only products are rounded."""
    given = dense.problem(vocab=400, width=32, lengths=(40,), dtype=torch.float32, spread=4.0, softcap=softcap, bias=bias)
    teacher = given.teachers["teacher"]
    assert isinstance(teacher, FullSignal)

    def held(values: torch.Tensor) -> torch.Tensor:
        return values.detach().bfloat16().float()

    def head(of: Head, **options: bool) -> Head:
        return replace(of, weight=held(of.weight).requires_grad_(bool(options)))

    return replace(
        given,
        hidden=held(given.hidden).requires_grad_(),
        head=head(given.head, trained=True),
        teachers={"teacher": FullSignal(hidden=held(teacher.hidden), head=head(teacher.head))},
    )


@pytest.mark.parametrize("softcap", [None, 30.0])
@pytest.mark.parametrize("bias", [False, True])
def test_rounded_products_give_the_objective_and_its_gradients_to_the_precision_of_the_type(softcap, bias):
    given = confident(softcap=softcap, bias=bias)
    terms = [o.Term(name="loss", signal=o.ReverseKL()), o.Term(name="sampled", signal=o.ScoreFunction(), scale=0.1)]
    exact = dense.loss(terms, given)
    found = dense.evaluate(terms, given, budget=Budget(head_dtype=torch.bfloat16, rounded=True))
    assert float(found.loss.detach()) == pytest.approx(float(exact.detach()), rel=5e-3)
    for ours, theirs in zip(dense.gradients(found.loss, given), dense.gradients(exact, given), strict=True):
        assert (ours - theirs).norm() < 0.01 * theirs.norm()


def test_an_entry_is_off_in_proportion_to_its_distance_from_the_rows_own_token():
    given = confident()
    exact = given.hidden.detach() @ given.head.weight.detach().T
    token = given.batch.token
    head = Projection(given.head, exact=torch.float32, dtype=torch.bfloat16, temperature=1.0, rounded=True)
    found = head.panel(given.hidden, token)
    distance = exact - exact.gather(-1, token.unsqueeze(-1))
    error = (found - distance).abs()
    assert float(error.gather(-1, token.unsqueeze(-1)).max()) < 1e-2
    assert (error <= distance.abs() * 2**-8 + 1e-2).all()
    plain = (exact.bfloat16().float() - exact).abs()
    near = distance.abs() < 0.1 * exact.abs().amax(dim=-1, keepdim=True)
    assert float(error[near].mean()) < 0.5 * float(plain[near].mean())


def test_in_float32_there_is_nothing_to_round():
    given = dense.problem(dtype=torch.float32)
    terms = [o.Term(name="loss", signal=o.ReverseKL())]
    plain = dense.evaluate(terms, given)
    assert torch.equal(dense.evaluate(terms, given, budget=Budget(rounded=True)).loss, plain.loss)


def test_a_wide_head_adds_up_its_weights_gradient_in_pieces():
    given = dense.problem(vocab=40_000, width=4, lengths=(6,), dtype=torch.float32)
    terms = [o.Term(name="loss", signal=o.ForwardKL())]
    exact = dense.gradients(dense.loss(terms, given), given)[1]
    for rounded in (False, True):
        found = dense.evaluate(terms, given, budget=Budget(head_dtype=torch.bfloat16, rounded=rounded, chunk_mib=1))
        ours = dense.gradients(found.loss, given)[1]
        assert (ours - exact).norm() < 0.02 * exact.norm()

"""Terms, their sum, and the fused head that evaluates them from hidden states."""

from tutelage.objectives.divergences import ForwardKL, JensenShannon, ReverseKL
from tutelage.objectives.fused import Budget, Evaluation, Temperatures, evaluate, measure
from tutelage.objectives.plan import Plan, plan
from tutelage.objectives.score_function import NoBaseline, ScoreFunction, StudentKLBaseline
from tutelage.objectives.signals import AnySignal
from tutelage.objectives.supervised import CrossEntropy
from tutelage.objectives.supports import FullVocabulary, TopK
from tutelage.objectives.terms import Constant, SequenceMean, Term, TokenMean

__all__ = [
    "AnySignal",
    "Budget",
    "Constant",
    "CrossEntropy",
    "Evaluation",
    "ForwardKL",
    "FullVocabulary",
    "JensenShannon",
    "NoBaseline",
    "Plan",
    "ReverseKL",
    "ScoreFunction",
    "SequenceMean",
    "StudentKLBaseline",
    "Temperatures",
    "Term",
    "TokenMean",
    "TopK",
    "evaluate",
    "measure",
    "plan",
]

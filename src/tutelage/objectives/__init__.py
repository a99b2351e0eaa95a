"""Terms, their sum, and the fused head that evaluates them from hidden states."""

from tutelage.credit import GroupRelative
from tutelage.objectives.advantages import BatchMean, LeaveOneOut, LogRatio, NoBaseline, StudentKLBaseline
from tutelage.objectives.divergences import ForwardKL, JensenShannon, ReverseKL
from tutelage.objectives.entropy import NegativeEntropy
from tutelage.objectives.fused import Budget, Evaluation, Temperatures, evaluate, measure
from tutelage.objectives.hidden_match import HiddenMatch
from tutelage.objectives.plan import Plan, plan
from tutelage.objectives.preference import Preference
from tutelage.objectives.ratios import Band, Clipped, Importance, NoRatio
from tutelage.objectives.sampled_kl import SampledKL
from tutelage.objectives.score_function import ScoreFunction
from tutelage.objectives.signals import AnySignal
from tutelage.objectives.supervised import CrossEntropy, SpanLikelihood
from tutelage.objectives.supports import FullVocabulary, TopK
from tutelage.objectives.terms import Constant, SequenceMean, Sum, Term, TokenMean

__all__ = [
    "AnySignal",
    "Band",
    "BatchMean",
    "Budget",
    "Clipped",
    "Constant",
    "CrossEntropy",
    "Evaluation",
    "ForwardKL",
    "FullVocabulary",
    "GroupRelative",
    "HiddenMatch",
    "Importance",
    "JensenShannon",
    "LeaveOneOut",
    "LogRatio",
    "NegativeEntropy",
    "NoBaseline",
    "NoRatio",
    "Plan",
    "Preference",
    "ReverseKL",
    "SampledKL",
    "ScoreFunction",
    "SequenceMean",
    "SpanLikelihood",
    "StudentKLBaseline",
    "Sum",
    "Temperatures",
    "Term",
    "TokenMean",
    "TopK",
    "evaluate",
    "measure",
    "plan",
]

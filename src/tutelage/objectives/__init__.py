"""Terms, their sum, and the fused head that evaluates them from hidden states."""

from tutelage.credit import GroupRelative
from tutelage.objectives.advantages import BatchMean, LeaveOneOut, LogRatio, NoBaseline, StudentKLBaseline, TopKLBaseline
from tutelage.objectives.compositions import (
    AnyComposition,
    ConsensusOfTeachers,
    InterpolatedTeacher,
    MixtureOfTeachers,
    ProductOfTeachers,
    SteeredTeacher,
    TemperedTeacher,
    TrustRegionTeacher,
)
from tutelage.objectives.divergences import (
    Alpha,
    ChiSquare,
    Divergence,
    ForwardKL,
    Hellinger,
    Jeffreys,
    JensenShannon,
    ReverseKL,
    SkewKL,
    TotalVariation,
)
from tutelage.objectives.entropy import NegativeEntropy
from tutelage.objectives.enumerated_actions import CandidateActions
from tutelage.objectives.fused import Budget, Evaluation, Temperatures, evaluate, measure
from tutelage.objectives.hidden_match import HiddenMatch
from tutelage.objectives.plan import Plan, plan
from tutelage.objectives.preference import Preference
from tutelage.objectives.ratios import AnyRatio, Band, Clipped, Importance, NoRatio
from tutelage.objectives.reshaped import Reshaped
from tutelage.objectives.sampled_kl import SampledKL
from tutelage.objectives.score_function import ScoreFunction
from tutelage.objectives.signals import AnySignal
from tutelage.objectives.supervised import CrossEntropy, SpanLikelihood
from tutelage.objectives.supports import FullVocabulary, SampledToken, TopK
from tutelage.objectives.terms import Constant, SequenceMean, Sum, Term, TokenMean

__all__ = [
    "Alpha",
    "AnyComposition",
    "AnyRatio",
    "AnySignal",
    "Band",
    "BatchMean",
    "Budget",
    "CandidateActions",
    "ChiSquare",
    "Clipped",
    "ConsensusOfTeachers",
    "Constant",
    "CrossEntropy",
    "Divergence",
    "Evaluation",
    "ForwardKL",
    "FullVocabulary",
    "GroupRelative",
    "Hellinger",
    "HiddenMatch",
    "Importance",
    "InterpolatedTeacher",
    "Jeffreys",
    "JensenShannon",
    "LeaveOneOut",
    "LogRatio",
    "MixtureOfTeachers",
    "NegativeEntropy",
    "NoBaseline",
    "NoRatio",
    "Plan",
    "Preference",
    "ProductOfTeachers",
    "Reshaped",
    "ReverseKL",
    "SampledKL",
    "SampledToken",
    "ScoreFunction",
    "SequenceMean",
    "SkewKL",
    "SpanLikelihood",
    "SteeredTeacher",
    "StudentKLBaseline",
    "Sum",
    "Temperatures",
    "TemperedTeacher",
    "Term",
    "TokenMean",
    "TopK",
    "TopKLBaseline",
    "TotalVariation",
    "TrustRegionTeacher",
    "evaluate",
    "measure",
    "plan",
]

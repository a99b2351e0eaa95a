"""What is minimised at a token: the union of all signals, one file per kind."""

from typing import Annotated

from pydantic import Field

from tutelage.objectives.divergences import (
    Alpha,
    ChiSquare,
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
from tutelage.objectives.hidden_match import HiddenMatch
from tutelage.objectives.preference import Preference
from tutelage.objectives.sampled_kl import SampledKL
from tutelage.objectives.score_function import ScoreFunction
from tutelage.objectives.supervised import CrossEntropy, SpanLikelihood

AnySignal = Annotated[
    ReverseKL
    | ForwardKL
    | JensenShannon
    | SkewKL
    | Alpha
    | Jeffreys
    | TotalVariation
    | Hellinger
    | ChiSquare
    | CandidateActions
    | ScoreFunction
    | SampledKL
    | CrossEntropy
    | SpanLikelihood
    | Preference
    | NegativeEntropy
    | HiddenMatch,
    Field(discriminator="kind"),
]

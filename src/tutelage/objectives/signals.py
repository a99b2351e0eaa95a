"""What is minimised at a token: the union of all signals, one file per kind."""

from typing import Annotated

from pydantic import Field

from tutelage.objectives.divergences import ForwardKL, JensenShannon, ReverseKL
from tutelage.objectives.score_function import ScoreFunction
from tutelage.objectives.supervised import CrossEntropy

AnySignal = Annotated[ReverseKL | ForwardKL | JensenShannon | ScoreFunction | CrossEntropy, Field(discriminator="kind")]

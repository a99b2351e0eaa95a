"""Who scores the tokens, and what only the teacher reads."""

from tutelage.teachers.assembly import build, template_options
from tutelage.teachers.cached import Cached
from tutelage.teachers.experts import Experts
from tutelage.teachers.in_process import Teacher
from tutelage.teachers.scorer import CacheUse, Reader, Scored, Scorer, TeacherPrompt, TeacherReading
from tutelage.teachers.weights import TeacherWeights

__all__ = [
    "CacheUse",
    "Cached",
    "Experts",
    "Reader",
    "Scored",
    "Scorer",
    "Teacher",
    "TeacherPrompt",
    "TeacherReading",
    "TeacherWeights",
    "build",
    "template_options",
]

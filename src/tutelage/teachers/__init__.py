"""Who scores the tokens, and what only the teacher reads."""

from tutelage.teachers.assembly import build, template_options
from tutelage.teachers.experts import Experts
from tutelage.teachers.in_process import Teacher
from tutelage.teachers.remembering import Remembering
from tutelage.teachers.scorer import Reader, Scored, Scorer, TeacherPrompt
from tutelage.teachers.weights import TeacherWeights

__all__ = [
    "Experts",
    "Reader",
    "Remembering",
    "Scored",
    "Scorer",
    "Teacher",
    "TeacherPrompt",
    "TeacherWeights",
    "build",
    "template_options",
]

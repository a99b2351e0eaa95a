"""Who scores the tokens, and what only the teacher reads."""

from tutelage.teachers.assembly import AnyScorer, build, template_options
from tutelage.teachers.experts import Experts
from tutelage.teachers.in_process import Scored, Teacher, TeacherPrompt
from tutelage.teachers.remembering import Remembering
from tutelage.teachers.weights import TeacherWeights

__all__ = [
    "AnyScorer",
    "Experts",
    "Remembering",
    "Scored",
    "Teacher",
    "TeacherPrompt",
    "TeacherWeights",
    "build",
    "template_options",
]

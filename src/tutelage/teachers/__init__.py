"""Who scores the tokens, and what only the teacher reads."""

from tutelage.teachers.assembly import AnyScorer, build, template_options
from tutelage.teachers.experts import Experts
from tutelage.teachers.in_process import Scored, Teacher, TeacherPrompt
from tutelage.teachers.weights import TeacherWeights

__all__ = ["AnyScorer", "Experts", "Scored", "Teacher", "TeacherPrompt", "TeacherWeights", "build", "template_options"]

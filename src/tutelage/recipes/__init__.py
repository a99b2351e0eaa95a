"""One function per published method; each returns a frozen Recipe."""

from tutelage.recipes.baselines import grpo, rft, seq_kd, sft
from tutelage.recipes.behaviour import trb
from tutelage.recipes.cards import Card, Knob
from tutelage.recipes.estimators import eopd, exopd, reopold
from tutelage.recipes.experts import mopd
from tutelage.recipes.horizons import adwin, esr, kat
from tutelage.recipes.recipe import Recipe
from tutelage.recipes.registry import REGISTRY, Entry, get
from tutelage.recipes.replay import f_opd, lightning
from tutelage.recipes.rewards import dgrpo, rlsd, srpo
from tutelage.recipes.routing import fire_opd, scope, sod
from tutelage.recipes.self_distillation import opsd, sdpo
from tutelage.recipes.supports import many_faces, revisiting
from tutelage.recipes.token_weights import iw_opd, pw_opsd, ta_opd, tip
from tutelage.recipes.tools import effopd
from tutelage.recipes.views import avsd, selfci
from tutelage.recipes.white_box import gkd, opd, tropd, vopd

__all__ = [
    "REGISTRY",
    "Card",
    "Entry",
    "Knob",
    "Recipe",
    "adwin",
    "avsd",
    "dgrpo",
    "effopd",
    "eopd",
    "esr",
    "exopd",
    "f_opd",
    "fire_opd",
    "get",
    "gkd",
    "grpo",
    "iw_opd",
    "kat",
    "lightning",
    "many_faces",
    "mopd",
    "opd",
    "opsd",
    "pw_opsd",
    "reopold",
    "revisiting",
    "rft",
    "rlsd",
    "scope",
    "sdpo",
    "selfci",
    "seq_kd",
    "sft",
    "sod",
    "srpo",
    "ta_opd",
    "tip",
    "trb",
    "tropd",
    "vopd",
]

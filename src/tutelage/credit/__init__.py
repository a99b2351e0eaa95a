"""From rewards to advantages: returns, baselines, groups, and pairs of responses."""

from tutelage.credit.groups import GroupRelative

__all__ = ["GroupRelative"]

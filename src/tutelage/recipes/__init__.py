"""One function per published method; each returns a frozen Recipe."""

from tutelage.recipes.recipe import Recipe

__all__ = ["Recipe"]

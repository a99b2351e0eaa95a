"""From files and data sets to examples, and the order in which a run reads them."""

from tutelage.data.order import PromptOrder
from tutelage.data.source import DataSource, load

__all__ = ["DataSource", "PromptOrder", "load"]

"""The report of a run: one self-contained HTML file for people."""

from collections.abc import Sequence
from pathlib import Path

from tutelage.tracking.files import write_text
from tutelage.tracking.report.page import page
from tutelage.tracking.report.run import load_all

__all__ = ["write_report"]


def write_report(run_folder: Path | str, *, compare: Sequence[Path | str] = ()) -> Path:
    """Write `report.html` into a run folder; it can be written at any time, also while the run goes on.

    Args:
        run_folder: Of the run that the report is about.
        compare: Folders of further runs, drawn into the same plots, for example a baseline.

    Returns:
        The file.

    Raises:
        CheckpointError: A folder is not a run's or is damaged, or the file could not be written.
    """
    runs = load_all([run_folder, *compare])
    path = runs[0].folder.report_file
    write_text(path, page(runs))
    return path

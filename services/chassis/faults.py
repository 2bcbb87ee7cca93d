"""Placed faults: named points at which a test can kill the process, with proof that it happened."""

import os
import signal
from pathlib import Path

__all__ = ["FaultPoints"]


class FaultPoints:
    """A file `<point>.<n>.arm` in the folder arms a point once; reaching it renames the file to `.hit` and kills.

    The rename is atomic, so one armed file is one kill whichever process comes first, and the `.hit` file is the
    proof a test asks for. Without a folder (production) a point costs one comparison.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def reach(self, point: str) -> None:
        """Dies here by SIGKILL when the point is armed; else returns."""
        if self._folder is None:
            return
        for armed in sorted(self._folder.glob(f"{point}.*.arm")):
            try:
                armed.rename(armed.with_suffix(".hit"))
            except FileNotFoundError:
                continue  # Another process has taken this armed file.
            os.kill(os.getpid(), signal.SIGKILL)

"""Makes a process of ours say which files it runs: Python imports this module by itself where it finds it in its path.

At SIGUSR2 it begins to note the files of ours whose functions are called; at the next one it writes them down.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

OURS = ("/services/", "/rappen_contracts/")
_told = Path(os.environ["RAPPEN_TRACED"])
_files: set[str] = set()
_tracing = False


def _note(frame: FrameType, event: str, _: Any) -> None:
    code = frame.f_code
    # What runs while a module is imported is no part of any request.
    if event == "call" and code.co_name != "<module>" and any(ours in code.co_filename for ours in OURS):
        _files.add(code.co_filename)


def _turn(*_: object) -> None:
    global _tracing  # noqa: PLW0603 - a signal has no other state.
    _tracing = not _tracing
    sys.setprofile(_note if _tracing else None)
    written = _told.with_suffix(f".{os.getpid()}.{'begun' if _tracing else 'files'}")
    # In its place in one step, because somebody waits for it.
    written.with_suffix(".new").write_text("\n".join(sorted(_files)))
    written.with_suffix(".new").rename(written)


signal.signal(signal.SIGUSR2, _turn)

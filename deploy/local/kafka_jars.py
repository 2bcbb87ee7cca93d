"""The published Apache Kafka jars, fetched once per user and machine."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.errors import StackError

KAFKA_VERSION = "4.3.1"

_COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # Kafka logs through slf4j and is mute without a binding; this one writes to standard error. Its version is that of
    # the slf4j-api which this Kafka asks for.
    "org.slf4j:slf4j-simple:1.7.36",
)


def cache_folder() -> Path:
    """Give the per-user folder of downloads: `RAPPEN_CACHE`, else `~/.cache/rappen`."""
    given = os.environ.get("RAPPEN_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "rappen"


def kafka_jars() -> Path:
    """Give the folder with Kafka's jars, downloading them the first time (45 files, 45 MB, about 20 s)."""
    folder = cache_folder() / f"kafka-{KAFKA_VERSION}"
    if folder.exists():
        return folder
    cache_folder().mkdir(parents=True, exist_ok=True)
    with locked(cache_folder() / "download.lock"):
        if not folder.exists():
            _download(folder)
    return folder


def _download(folder: Path) -> None:
    # Imported here: it takes a second, only the first start of a machine needs it, and an image has none of it.
    import requests
    from jgo.maven import MavenContext
    from rich.console import Console

    console = Console(stderr=True)
    doing = f"Downloading Apache Kafka {KAFKA_VERSION} (45 MB, once per machine)"
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    jars = partial / "jars"
    jars.mkdir(parents=True)
    try:
        with console.status(f"{doing}: list of files") as line:
            context = MavenContext(repo_cache=partial / "repository", timeout=60)
            wanted = [context.create_dependency(coordinate) for coordinate in _COORDINATES]
            direct, transitive = context.resolver.resolve(wanted)
            artifacts = [dependency.artifact for dependency in (*direct, *transitive)]
            for number, artifact in enumerate(artifacts, start=1):
                line.update(f"{doing}: {number} of {len(artifacts)}, {artifact.filename}")
                shutil.move(artifact.resolve(), jars / artifact.filename)
    except (requests.RequestException, RuntimeError, OSError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise StackError(f"Apache Kafka {KAFKA_VERSION} could not be downloaded: {error}") from error
    # One rename at the end: a download that was cut off never looks complete.
    jars.rename(folder)
    shutil.rmtree(partial)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes, so that two first starts side by side make a thing once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

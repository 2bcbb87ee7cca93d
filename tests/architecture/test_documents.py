"""What the documents for people say of this repository is there, and none is left with two versions of a passage."""

import re
from pathlib import Path

import pytest

from tests.support.stack import ROOT

# Folders that are made here, not written.
MADE = {".venv", ".git", ".rappen", "__pycache__", "node_modules"}
FILES = [
    path.relative_to(ROOT)
    for path in sorted(ROOT.rglob("*"))
    if path.is_file() and not MADE.intersection(path.relative_to(ROOT).parts)
]
DOCUMENTS = [path for path in FILES if path.suffix == ".md"]
PLACES = {part for path in FILES for part in (path, *path.parents)}
# A changelog may name what is no longer there.
CURRENT = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]
NAMED = re.compile(r"`([\w./-]+(?:\.(?:py|json|md|toml|yaml|lock)|/))`")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
CONFLICT = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)
# Made by a running stack; and the example of a contract's next version.
NOT_HERE = {".rappen/stack.json", "v2.py"}


def exists(name: str) -> bool:
    """Whether a file or folder ends like that; documents name files from the folder of their subject."""
    wanted = Path(name).parts
    return any(path.parts[-len(wanted) :] == wanted for path in PLACES)


def test_there_are_documents_at_all() -> None:
    assert {Path("README.md"), Path("ARCHITECTURE.md"), Path("services/billing/README.md")} <= set(CURRENT)
    assert exists("ledger/write_postings.py")
    assert not exists("ledger/nothing.py")


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_no_merge_is_left_undecided(document: Path) -> None:
    assert not CONFLICT.findall((ROOT / document).read_text())


@pytest.mark.parametrize("document", CURRENT, ids=str)
def test_files_that_a_document_names_exist(document: Path) -> None:
    text = (ROOT / document).read_text()
    missing = {name for name in NAMED.findall(text) if name not in NOT_HERE and not exists(name)}
    missing |= {link for link in LINK.findall(text) if not (ROOT / document.parent / link).exists()}
    assert not missing

"""Makes the signing key of development tokens, for `compose.yaml`: `python -m deploy.local.issuer_key FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.local.identity import ensure_issuer_key

if __name__ == "__main__":
    ensure_issuer_key(Path(sys.argv[1]))

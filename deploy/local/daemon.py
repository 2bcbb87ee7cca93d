"""The supervisor as a process of its own, which `rappen up --detach` leaves behind: `python -m deploy.local.daemon`.

Its one argument is the options as a JSON object.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from deploy.local.errors import StackError
from deploy.local.home import find_home
from deploy.local.plan import Options
from deploy.local.stack import run_stack


def main() -> int:
    """Run a stack until it is told to stop; 1 if it did not come up."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    log = logging.getLogger("deploy.local")
    given = json.loads(sys.argv[1])
    options = Options(**{**given, "frontend_origins": tuple(given["frontend_origins"])})
    try:
        asyncio.run(run_stack(find_home(), options, report=log.info, on_ready=lambda _: None))
    except StackError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m service.openapi` freezes the HTTP contract again, after a change that was meant."""

from __future__ import annotations

from pathlib import Path

import orjson

from service.app import create_app
from service.settings import Settings

FROZEN = Path(__file__).with_name("openapi.json")


def current() -> bytes:
    """The contract of this code, as it is written to the file."""
    document = create_app(Settings.load()).api.openapi()
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


if __name__ == "__main__":
    FROZEN.write_bytes(current())
    print(f"wrote {FROZEN.name}")

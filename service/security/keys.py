"""API keys: how one is made, and how a server knows it again. A server never has the keys, only their digests.

    search  sha256=9f86d0...  scopes=infer,write  requests_per_minute=600

is a line of the file, one key each; behind `#` stands a comment.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.validation import faults
from tessera.errors import TesseraError

KeyScope = Literal["infer", "write", "admin"]
"""`infer` asks the models and reads, `write` changes what is kept, `admin` looks at the server itself."""

KEY_SCOPES: tuple[KeyScope, ...] = get_args(KeyScope)

PREFIX = "tsr_"
"""So that whoever searches for keys that got lost finds them."""

MAX_KEYS = 1000
_KEY_BYTES = 32


class KeysUnreadable(TesseraError):
    """Keys that cannot be taken; the message says where, and repeats nothing of them."""


class Key(BaseModel):
    """One key; without a rate of its own it has that of the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: frozenset[KeyScope] = Field(min_length=1)
    requests_per_minute: float | None = Field(None, ge=1, allow_inf_nan=False)
    segments_per_minute: float | None = Field(None, ge=1, allow_inf_nan=False)

    @property
    def line(self) -> str:
        """That of the file."""
        scopes = ",".join(scope for scope in KEY_SCOPES if scope in self.scopes)
        rates = "".join(
            f" {name}={value:g}"
            for name in ("requests_per_minute", "segments_per_minute")
            if (value := getattr(self, name)) is not None
        )
        return f"{self.name} sha256={self.sha256} scopes={scopes}{rates}"


def new_secret() -> str:
    """A fresh key."""
    return PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def digest_of(secret: bytes) -> bytes:
    """What is kept of a key.

    A slow hash protects secrets that can be guessed. A key is 256 random bits, which nobody guesses, however fast.
    """
    return sha256(secret).digest()


Keys = dict[bytes, Key]
"""By digest.

Finding a digest in a dict does not take the same time for all, and need not: what can be measured is how the digest of
what was sent compares with the digest of a key. To steer that, one has to find preimages of SHA-256; and whoever knew
the digest of a key would still not have the key.
"""


def read_keys(text: str) -> Keys:
    """The keys of a file, or of the environment, where semicolons end lines too.

    Raises:
        KeysUnreadable: a line is none, a name or a key is there twice, there is none or too many.
    """
    keys: list[Key] = []
    for number, line in enumerate(text.replace(";", "\n").splitlines(), 1):
        if parts := line.partition("#")[0].split():
            keys.append(_key(parts, f"line {number}"))
    if not keys:
        raise KeysUnreadable("there is no key")
    if len(keys) > MAX_KEYS:
        raise KeysUnreadable(f"there are {len(keys)} keys, the limit is {MAX_KEYS}")
    return by_digest(keys)


def by_digest(keys: Iterable[Key]) -> Keys:
    """`keys`, as they are looked up.

    Raises:
        KeysUnreadable: a name or a key is there twice.
    """
    found: Keys = {}
    names: set[str] = set()
    for key in keys:
        digest = bytes.fromhex(key.sha256)
        if digest in found or key.name in names:
            raise KeysUnreadable(f"'{key.name}' is there twice, or its key is")
        found[digest] = key
        names.add(key.name)
    return found


def _key(parts: list[str], place: str) -> Key:
    name, *fields = parts
    document: dict[str, object] = {"name": name}
    for each in fields:
        field, mark, value = each.partition("=")
        if not mark or field in document:
            raise KeysUnreadable(
                f"{place}: behind the name stand fields, each once, as in scopes=infer,write"
            )
        document[field] = value.split(",") if field == "scopes" else value
    try:
        return Key.model_validate(document)
    except ValidationError as error:
        fault = faults(error)[0]
        # The name of a field may be a key that was put in the wrong place.
        param = fault.param if fault.param.partition("[")[0] in Key.model_fields else "a field"
        raise KeysUnreadable(f"{place}: {param} {fault.sentence}") from None

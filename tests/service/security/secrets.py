"""Keys of every kind, and the lines that a server knows them by."""

from __future__ import annotations

from hashlib import sha256

from service.security.keys import KEY_SCOPES, KeyScope, new_secret

KEYS: dict[KeyScope, str] = {scope: new_secret() for scope in KEY_SCOPES}
"""One key for each scope."""

ALL = new_secret()
"""A key with every scope."""


def line(name: str, secret: str, scopes: str = "infer", **fields: object) -> str:
    digest = sha256(secret.encode()).hexdigest()
    return " ".join([name, f"sha256={digest}", f"scopes={scopes}", *(f"{k}={v}" for k, v in fields.items())])


LINES = "\n".join(
    [*(line(scope, secret, scope) for scope, secret in KEYS.items()), line("all", ALL, ",".join(KEY_SCOPES))]
)


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}

"""Which scope a key needs for which route of the contract: the one table. A route that is not in it is refused."""

from __future__ import annotations

from starlette.routing import compile_path

from service.errors import ApiError
from service.security.keys import KeyScope

OPEN = (("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/health/startup"))
"""What is answered to anybody, and nothing else: those who probe have no keys."""

SCOPES: dict[str, dict[str, KeyScope]] = {
    "/tokenize": {"POST": "infer"},
    "/detokenize": {"POST": "infer"},
    "/v1/embeddings": {"POST": "infer"},
    "/v1/models": {"GET": "infer"},
    "/v1/models/{name}": {"GET": "infer"},
    "/models": {"GET": "infer"},
    "/limits": {"GET": "infer"},
    "/version": {"GET": "infer"},
    "/codebook": {"GET": "infer"},
    "/codebook/vectors": {"GET": "infer"},
    "/codebook/codes/{level}/{code}": {"GET": "infer"},
    "/codebook/usage": {"GET": "infer"},
    "/retrieve": {"POST": "infer"},
    "/indexes": {"GET": "infer"},
    "/indexes/{index}": {"GET": "infer", "PUT": "write", "DELETE": "write"},
    "/indexes/{index}/items": {"GET": "infer", "POST": "write"},
    "/indexes/{index}/items/{item}": {"GET": "infer", "DELETE": "write"},
    "/indexes/{index}/stats": {"GET": "infer"},
    "/items": {"GET": "infer", "POST": "write"},
    "/items/{item}": {"GET": "infer", "DELETE": "write"},
    "/decoders": {"GET": "infer"},
    "/decoders/{decoder}": {"GET": "infer", "PUT": "write", "DELETE": "write"},
    "/decode/{decoder}": {"POST": "infer"},
    "/openapi.json": {"GET": "infer"},
    "/docs": {"GET": "infer"},
    "/docs/oauth2-redirect": {"GET": "infer"},
    "/static-offline-docs/{path:path}": {"GET": "infer"},
    "/health/live": {"GET": "infer"},
    "/health/ready": {"GET": "infer"},
    "/health/startup": {"GET": "infer"},
    "/metrics": {"GET": "admin"},
}

# As the router does it, which lets a path end in a line feed.
_PATTERNS = [(compile_path(template)[0], methods) for template, methods in SCOPES.items()]


def scopes_of(method: str, path: str) -> frozenset[KeyScope]:
    """All scopes that `method` on `path` needs; several where templates overlap, whichever route answers.

    Raises:
        ApiError: `not_found` or `method_not_allowed`.
    """
    if (known := _KNOWN.get((method, path))) is not None:
        return known
    matching = [methods for pattern, methods in _PATTERNS if pattern.match(path)]
    if not matching:
        raise ApiError("not_found", "there is no such path")
    asked = "GET" if method == "HEAD" else method
    needed = frozenset(methods[asked] for methods in matching if asked in methods)
    if not needed:
        allowed = sorted({each for methods in matching for each in methods})
        message = "this path does not take this method"
        raise ApiError("method_not_allowed", message, headers={"allow": ", ".join(allowed)})
    return needed


_KNOWN: dict[tuple[str, str], frozenset[KeyScope]] = {}
_KNOWN |= {
    (method, path): scopes_of(method, path)
    for path, methods in SCOPES.items()
    if "{" not in path
    for method in methods
}
"""Of paths that stand for themselves, which are most of what is asked."""

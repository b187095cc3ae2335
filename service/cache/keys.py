"""What decides the codes of an input, as one hash: its content, the model, the options, and how it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from importlib.metadata import version

from service.inputs import media_bytes, media_modality
from service.schemas import AudioInput, TextInput, VideoInput
from tessera.limits import Truncate
from tessera.opener import ClipOpener

CacheableInput = TextInput | AudioInput | VideoInput
Key = bytes

_FORMAT = "1"
"""Of keys and entries; another number makes a cache forget."""

_LIGHT = 128 * 1024
"""Characters of base64, or bytes, that are hashed sooner than a thread is woken."""


_HALF_LETTERS = "surrogatepass"
"""A text may have halves of letters, and is another with another half."""


class Keys:
    """Those of the inputs of one model.

    Equal keys mean equal codes, so the versions of what reads media are in them, and the execution providers, whose
    rounding differs. Limits are in them because an input that this server refuses is refused whatever others know.
    """

    def __init__(self, opener: ClipOpener, providers: Sequence[str]) -> None:
        model = (_FORMAT, opener.bundle.revision, version("tessera"), version("av"), *providers)
        limits = map(repr, astuple(opener.limits))
        self._beginning = hashlib.sha256(_fields((*model, "limits", *limits)))

    def of(self, item: CacheableInput, truncate: Truncate) -> Key:
        """The key of `item`; media is hashed as the file that it is, however it was sent.

        Raises:
            ApiError: `invalid_value`: it is not base64.
        """
        options: tuple[str, ...]
        if isinstance(item, TextInput):
            options, content = ("text", truncate), (item.text or "").encode("utf-8", _HALF_LETTERS)
        else:
            excerpt = repr(item.start_sec), repr(item.end_sec)
            options, content = (media_modality(item), truncate, *excerpt), media_bytes(item)
        digest = self._beginning.copy()
        digest.update(_fields(options))
        digest.update(content)  # the last, so that it needs no length
        return digest.digest()


def is_light(item: CacheableInput) -> bool:
    """Whether hashing the input costs less than waking a thread for it."""
    return len((item.text if isinstance(item, TextInput) else item.data) or "") < _LIGHT


def _fields(values: Iterable[str]) -> bytes:
    """Each behind its length, so that no two lists read the same."""
    return b"".join(len(value).to_bytes(4, "little") + value.encode() for value in values)

"""The errors of Tessera, one tree.

TesseraError
├── InputError            what a caller sent cannot be tokenised; safe to show to a client
├── BundleError           a bundle is damaged, foreign or from another schema version
├── HubError              a hub cannot give or take a bundle
├── RuntimeUnavailable    the device or execution provider that was asked for is not active
└── TrainingError         training, evaluation or export cannot go on

Messages are ours and complete: they never carry a library's text, a path of the server or a stack.
"""

from __future__ import annotations

from typing import Literal

InputErrorCode = Literal[
    "code_out_of_range",
    "empty_input",
    "invalid_value",
    "media_corrupt",
    "media_too_large",
    "media_too_long",
    "missing_track",
    "text_too_long",
    "unsupported_media",
]


class TesseraError(Exception):
    """Base of every error that Tessera raises on purpose."""


class InputError(TesseraError):
    """An input that cannot be tokenised.

    `code` is the machine-readable reason, frozen in the HTTP contract. Where a limit was hit, `limit` and `actual`
    say by how much and `setting` names the knob that moves it.
    """

    def __init__(
        self,
        code: InputErrorCode,
        message: str,
        *,
        limit: float | None = None,
        actual: float | None = None,
        setting: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code: InputErrorCode = code
        self.message = message
        self.limit = limit
        self.actual = actual
        self.setting = setting


class BundleError(TesseraError):
    """A bundle that must not be served."""


class HubError(TesseraError):
    """A hub cannot give or take a bundle; the message says why."""


class RuntimeUnavailable(TesseraError):
    """The asked execution provider is not active; the message says what to install."""


class TrainingError(TesseraError):
    """Training, evaluation or export cannot go on; the message says what to change."""

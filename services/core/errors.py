"""The one error tree. It imports nothing of ours; `services.core.adapters.wire_errors` maps it to gRPC statuses.

BoneageError
├── InvalidRadiographError      what was sent cannot be read as a radiograph: says which field and why
│   ├── UnsupportedFormatError  a well-formed file of a kind that is not read
│   └── ImageTooLargeError      more pixels or bytes than the limit
├── InvalidRequestError         another field of the request is missing or out of its range
├── UnknownReleaseError         a release or a model version that is not served here
├── OverloadedError             the queue is full: refused at once
├── DeadlineExceededError       no time left to answer in
├── ModelUnavailableError       the runtime has not loaded the model or does not answer
├── ModelContractError          a model file whose tensors are not those agreed on
├── ReleaseError                a release that is damaged, incomplete, unsigned or not to be had
│   └── StoreUnavailableError   the store does not answer, which says nothing of a release
├── UnauthenticatedError        nobody known asks for what only some may do
├── PermissionDeniedError       somebody known asks for what he may not do
└── ConfigurationError          a setting that is unknown, missing or out of its range
"""


class BoneageError(Exception):
    """Any error that this project raises on purpose; its text never holds patient data."""

    def __init__(self, reason: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.reason = reason
        self.field = field


class InvalidRadiographError(BoneageError):
    """What was sent cannot be read as a radiograph."""


class UnsupportedFormatError(InvalidRadiographError):
    """A well-formed file of a kind that is not read (a transfer syntax, a colour photograph, several frames)."""


class ImageTooLargeError(InvalidRadiographError):
    """More pixels or bytes than the limit; decided before any pixel is decoded."""


class InvalidRequestError(BoneageError):
    """A field of the request is missing or out of its range."""


class UnknownReleaseError(BoneageError):
    """A release or a model version that is not served here."""


class OverloadedError(BoneageError):
    """Every place is taken; refused at once instead of queued."""


class DeadlineExceededError(BoneageError):
    """The caller's deadline leaves no time to answer in."""


class ModelUnavailableError(BoneageError):
    """The inference runtime has not loaded the model, or does not answer."""


class ModelContractError(BoneageError):
    """A model whose tensor names, types or shapes are not those agreed on."""


class ReleaseError(BoneageError):
    """A release that is damaged, incomplete, unsigned or not to be had."""


class StoreUnavailableError(ReleaseError):
    """The store does not answer; what is in it may be as it should."""


class UnauthenticatedError(BoneageError):
    """Who asks is not known here, and what is asked is only for those who are."""


class PermissionDeniedError(BoneageError):
    """Who asks is known, and may not do that."""


class ConfigurationError(BoneageError):
    """A setting that is unknown, missing or out of its range."""

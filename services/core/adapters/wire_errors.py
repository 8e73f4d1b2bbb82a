"""Turns the error tree into gRPC statuses with google.rpc details, and statuses back into the tree."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, cast

import grpc
from google.protobuf import any_pb2, message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # it ships no types

from services.core import errors

STATUSES: Final[Mapping[type[errors.BoneageError], grpc.StatusCode]] = {
    errors.InvalidRadiographError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownReleaseError: grpc.StatusCode.NOT_FOUND,
    errors.OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ModelUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.ModelContractError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ReleaseError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StoreUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.ConfigurationError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.BoneageError: grpc.StatusCode.INTERNAL,
}
RETRY_AFTER_S: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: 1,
    grpc.StatusCode.UNAVAILABLE: 1,
}
# What a status without our details means: one from a proxy, from the gRPC library or from a peer that is not there.
BARE_STATUSES: Final[Mapping[grpc.StatusCode, type[errors.BoneageError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: errors.UnknownReleaseError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.OverloadedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    grpc.StatusCode.UNAVAILABLE: errors.ModelUnavailableError,
    grpc.StatusCode.CANCELLED: errors.ModelUnavailableError,  # by a server that stops
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
}
DOMAIN: Final = "boneage"
DETAILS_KEY: Final = "grpc-status-details-bin"
MESSAGE_TOO_LARGE: Final = "message larger than max"
MAXIMUM_REASON_CHARACTERS: Final = 500


def kinds(root: type[errors.BoneageError] = errors.BoneageError) -> Iterator[type[errors.BoneageError]]:
    """`root` and everything below it in the error tree."""
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def status_code(kind: type[errors.BoneageError]) -> grpc.StatusCode:
    """The status of an error class: its own, or that of the nearest class above it."""
    return next(STATUSES[above] for above in kind.__mro__ if above in STATUSES)


def reason_code(kind: type[errors.BoneageError]) -> str:
    """The class as google.rpc.ErrorInfo names it: UNSUPPORTED_FORMAT for UnsupportedFormatError."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__.removesuffix("Error")).upper()


def to_status(error: errors.BoneageError) -> status_pb2.Status:
    """The status of an error, with what is wrong (ErrorInfo), where (BadRequest) and when to try again (RetryInfo)."""
    code, reason = status_code(type(error)), error.reason[:MAXIMUM_REASON_CHARACTERS]
    details: list[message.Message] = [error_details_pb2.ErrorInfo(reason=reason_code(type(error)), domain=DOMAIN)]
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=reason)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if code in RETRY_AFTER_S:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromSeconds(RETRY_AFTER_S[code])
        details.append(retry)
    text = f"{error.field}: {reason}" if error.field else reason
    return status_pb2.Status(code=code.value[0], message=text, details=[_packed(detail) for detail in details])


def from_call_error(error: grpc.aio.AioRpcError) -> errors.BoneageError:
    """The error of the tree that a failed call stands for: the server's own where it is one of ours."""
    status = _status_of(error)
    info, violation = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(violation)
    kind = _kind(error, info)
    if violation.field_violations:
        found = violation.field_violations[0]
        return kind(found.description, field=found.field)
    return kind(status.message or error.details() or error.code().name.lower().replace("_", " "))


def _kind(error: grpc.aio.AioRpcError, info: error_details_pb2.ErrorInfo) -> type[errors.BoneageError]:
    if info.domain == DOMAIN:
        return next((kind for kind in kinds() if reason_code(kind) == info.reason), errors.BoneageError)
    if MESSAGE_TOO_LARGE in (error.details() or ""):
        return errors.ImageTooLargeError
    return BARE_STATUSES.get(error.code(), errors.BoneageError)


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    metadata = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return status_pb2.Status()


def _packed(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed

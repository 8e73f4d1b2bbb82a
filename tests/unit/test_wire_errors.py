"""The table error -> gRPC status, walked along the whole tree."""

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2  # type: ignore[import-untyped]

from services.core import errors
from services.core.adapters.wire_errors import (
    MAXIMUM_REASON_CHARACTERS,
    STATUSES,
    from_call_error,
    kinds,
    reason_code,
    status_code,
    to_status,
)


def failed_call(code: grpc.StatusCode, details: str = "") -> grpc.aio.AioRpcError:
    """A call that failed without any details of ours."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details, None)


def test_tree_is_walked_whole() -> None:
    """Every error of the module is one that the walk finds."""
    public = {
        value for value in vars(errors).values() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert public == {kind for kind in kinds() if kind.__module__ == errors.__name__}


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_error_has_its_status_and_its_own_reason(kind: type[errors.BoneageError]) -> None:
    """Only the root is INTERNAL, and no two errors share a reason."""
    assert (status_code(kind) is grpc.StatusCode.INTERNAL) == (kind is errors.BoneageError)
    assert [other for other in kinds() if reason_code(other) == reason_code(kind)] == [kind]


def test_table_names_no_class_twice_by_its_parent() -> None:
    """An entry that says what the class above already says would be dead weight."""
    for kind, code in STATUSES.items():
        above = [STATUSES[parent] for parent in kind.__mro__[1:] if parent in STATUSES]
        assert not above or above[0] is not code


def test_bad_input_says_what_and_where() -> None:
    """INVALID_ARGUMENT carries the field, the description and our own reason."""
    status = to_status(errors.UnsupportedFormatError("is a colour photograph", field="radiograph.encoded"))
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(request)
    assert status.code == code_pb2.INVALID_ARGUMENT
    assert (info.reason, info.domain) == ("UNSUPPORTED_FORMAT", "boneage")
    assert request.field_violations[0].field == "radiograph.encoded"
    assert request.field_violations[0].description == "is a colour photograph"


@pytest.mark.parametrize("kind", [errors.OverloadedError, errors.ModelUnavailableError])
def test_what_passes_says_when_to_come_back(kind: type[errors.BoneageError]) -> None:
    """RESOURCE_EXHAUSTED and UNAVAILABLE carry a RetryInfo."""
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in to_status(kind("full")).details)
    assert retry.retry_delay.ToSeconds() >= 1


def test_long_reason_is_cut() -> None:
    """A status travels in headers, which have a limit."""
    status = to_status(errors.ReleaseError("x" * 100_000, field="release"))
    assert status.ByteSize() < 3 * MAXIMUM_REASON_CHARACTERS


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", errors.ModelUnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.DeadlineExceededError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many", errors.OverloadedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Sent message larger than max (9 vs. 8)", errors.ImageTooLargeError),
        (grpc.StatusCode.PERMISSION_DENIED, "", errors.PermissionDeniedError),
        (grpc.StatusCode.CANCELLED, "CANCELLED", errors.ModelUnavailableError),
        (grpc.StatusCode.DATA_LOSS, "", errors.BoneageError),
    ],
)
def test_status_of_others_means_something_too(
    code: grpc.StatusCode, details: str, kind: type[errors.BoneageError]
) -> None:
    """What a proxy or the gRPC library itself says is told as the nearest error of ours, never without a text."""
    error = from_call_error(failed_call(code, details))
    assert type(error) is kind
    assert error.reason == (details or code.name.lower().replace("_", " "))

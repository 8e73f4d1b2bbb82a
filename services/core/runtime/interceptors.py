"""What happens around every call: counted, timed, let in or refused; errors become statuses; one line is logged."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc
import structlog

from services.core.adapters.wire_errors import DETAILS_KEY, status_code, to_status
from services.core.errors import BoneageError
from services.core.runtime.admission import BEGUN, Admission
from services.core.runtime.logs import where
from services.core.runtime.telemetry import Telemetry

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

OWN_PACKAGE: Final = "boneage."
INTERNAL: Final = "boneage.v1.ModelHostService"
"""Asked once a second, also of a process that is full: it takes no place, and no line of the log at info."""
CODE_NAMES: Final = {code: "".join(part.capitalize() for part in code.name.split("_")) for code in grpc.StatusCode}
CODE_NAMES[grpc.StatusCode.OK] = "OK"


@dataclass(frozen=True, slots=True)
class Method:
    """A method as metrics name it."""

    kind: str
    service: str
    name: str

    @property
    def is_ours(self) -> bool:
        """Whether it does the process' own work, and is not health, reflection or what keeps the process going."""
        return self.service.startswith(OWN_PACKAGE) and self.service != INTERNAL

    @property
    def labels(self) -> tuple[str, str, str]:
        """Values of `telemetry.METHOD_LABELS`."""
        return self.kind, self.service, self.name


@dataclass(slots=True)
class Outcome:
    """How a call ended."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    error: BoneageError | None = None


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Wraps the handlers of all methods of a server."""

    def __init__(self, telemetry: Telemetry, admission: Admission) -> None:
        self._telemetry = telemetry
        self._admission = admission
        self._log = structlog.get_logger()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler that answers this call; an unknown method has none."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        _, service, name = handler_call_details.method.split("/")
        if handler.response_streaming:
            return self._streaming(handler, Method(_kind(handler), service, name))
        return self._single(handler, Method(_kind(handler), service, name))

    def _single(self, handler: Handler, method: Method) -> Handler:
        inner: Any = handler.stream_unary if handler.request_streaming else handler.unary_unary

        async def answer(request: Any, context: Context) -> Any:
            async with self._around(method, context):
                return await inner(request, context)

        streams = handler.request_streaming
        make = grpc.stream_unary_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        return make(answer, handler.request_deserializer, handler.response_serializer)

    def _streaming(self, handler: Handler, method: Method) -> Handler:
        inner: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream

        async def answer(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self._around(method, context), aclosing(inner(request, context)) as responses:
                async for response in responses:
                    yield response

        streams = handler.request_streaming
        make = grpc.stream_stream_rpc_method_handler if streams else grpc.unary_stream_rpc_method_handler
        return make(answer, handler.request_deserializer, handler.response_serializer)

    @asynccontextmanager
    async def _around(self, method: Method, context: Context) -> AsyncIterator[None]:
        started_s, outcome = time.perf_counter(), Outcome()
        self._telemetry.calls_started.labels(*method.labels).inc()
        try:
            async with AsyncExitStack() as stack:
                if method.is_ours and method.kind == "unary":
                    place = self._admission.entered(left_s=context.time_remaining(), begun=_is_begun(context))
                    await stack.enter_async_context(place)
                yield
        except BoneageError as error:
            outcome.code, outcome.error = status_code(type(error)), error
            await _abort(context, error)
        except grpc.aio.AbortError:
            outcome.code = context.code()
            raise
        except (asyncio.CancelledError, GeneratorExit):
            expired = context.time_remaining() == 0
            outcome.code = grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 -- the boundary: nothing of it may reach a client
            outcome.code = grpc.StatusCode.INTERNAL
            self._log.error("unexpected error", method=method.name, error=type(error).__name__, where=where(error))
            await context.abort(grpc.StatusCode.INTERNAL, "an unexpected error; the server's log has it")
        finally:
            self._finish(method, outcome, time.perf_counter() - started_s)

    def _finish(self, method: Method, outcome: Outcome, seconds: float) -> None:
        self._telemetry.calls_handled.labels(*method.labels, CODE_NAMES[outcome.code]).inc()
        self._telemetry.handling_seconds.labels(*method.labels).observe(seconds)
        log = self._log.info if method.is_ours else self._log.debug
        facts = {} if outcome.error is None else error_facts(outcome.error)
        log(
            "call",
            service=method.service,
            method=method.name,
            code=outcome.code.name,
            ms=round(seconds * 1e3, 1),
            **facts,
        )


def error_facts(error: BoneageError) -> dict[str, str]:
    """An error of ours as a log line tells it."""
    return {"error": type(error).__name__, "field": error.field, "reason": error.reason}


async def _abort(context: Context, error: BoneageError) -> None:
    status = to_status(error)
    details = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(status_code(type(error)), status.message, details)


def _is_begun(context: Context) -> bool:
    """Whether another service is at work on what this call is part of."""
    return any(key == BEGUN for key, _ in context.invocation_metadata() or ())


def _kind(handler: Handler) -> str:
    kinds = {(False, False): "unary", (True, False): "client_stream", (False, True): "server_stream"}
    return kinds.get((handler.request_streaming, handler.response_streaming), "bidi_stream")

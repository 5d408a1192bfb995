"""Every error as one JSON shape: {"error": {"message", "type", "param", "code"}}.

`type` is the name of the exception class in `lang/errors.py`, `code` the stable name that clients
branch on. The HTTP status follows from the code, else from the class.
"""

import difflib
import logging
import re

import msgspec
from aiohttp import web

from ramify.lang.errors import (
    Aborted,
    EngineError,
    ErrorInfo,
    InvalidRequest,
    NotFound,
    RamifyError,
    Unavailable,
    error_from_info,
)
from ramify.runtime.api.state import STATE, TRACE

_log = logging.getLogger("ramify.api")

STATUS_OF_CODE = {
    "invalid_api_key": 401,
    "admin_required": 403,
    "host_not_allowed": 403,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "duplicate_rid": 409,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "unsupported_encoding": 415,
    "expectation_failed": 417,
    "headers_too_large": 431,
}
MAX_MESSAGE_BYTES = 1500  # keeps an error body below 2 KiB
RETRY_AFTER_S = "1"


def status_of(error: RamifyError) -> int:
    """The HTTP status that `error` is answered with."""
    return STATUS_OF_CODE.get(error.code, error.status)


def error_json(info: ErrorInfo) -> bytes:
    """The body of an error reply, also the payload of an error event in a stream."""
    body: dict[str, str | int | None] = {
        "message": _clipped(info.message),
        "type": info.type,
        "param": None if info.param is None else info.param[:200],
        "code": info.code,
    }
    if info.pointer is not None:
        body["pointer"] = info.pointer[:200]
    if info.offset is not None:
        body["offset"] = info.offset
    return msgspec.json.encode({"error": body})


def error_response(error: RamifyError) -> web.Response:
    """The reply to a request that failed before its first byte."""
    status = status_of(error)
    response = web.Response(
        status=status, body=error_json(error.info()), content_type="application/json"
    )
    if isinstance(error, Unavailable):
        response.headers["Retry-After"] = RETRY_AFTER_S
    if status in (401, 403):
        response.headers["x-should-retry"] = "false"
    return response


def shown_error(error: Exception, request: web.Request) -> RamifyError:
    """What the client is told of `error`: all of our own errors, nothing of a bug's text."""
    if isinstance(error, Aborted) and request.app[STATE].is_draining:
        return Unavailable("the server shut down before the request was done", code="draining")
    if isinstance(error, RamifyError):
        return _renamed(error, request[TRACE].names)
    request_id = request[TRACE].request_id
    _log.error("request %s failed", request_id, exc_info=error)
    return EngineError(f"internal error; the server's log has it under request id {request_id}")


def _renamed(error: RamifyError, names: dict[str, str]) -> RamifyError:
    """`error` of a field of `Sampling`, by the name that the client gave it."""
    name = names.get(error.param or "")
    if name is None:
        return error
    info = error.info()
    message = info.message
    if message.startswith(f"{info.param}:"):
        message = name + message[len(info.param or "") :]
    return error_from_info(msgspec.structs.replace(info, param=name, message=message))


def http_error(status: int, method: str, path: str, reason: str) -> RamifyError:
    """What aiohttp itself refuses (no route, wrong method, too large), as one of our errors."""
    if status == 404:
        return NotFound(f"no route {path[:200]!r}", code="route_not_found")
    if status == 405:
        return InvalidRequest(f"{path[:200]!r} does not take {method}", code="method_not_allowed")
    if status == 413:
        return InvalidRequest(f"request body: {reason}", code="body_too_large")
    if status == 417:
        return InvalidRequest(f"Expect header: {reason}", code="expectation_failed")
    return InvalidRequest(f"bad HTTP request: {reason}", code="invalid_http")


def invalid_body(error: Exception, body_type: type) -> InvalidRequest:
    """A msgspec or decoding error as one that names the path of the field at fault."""
    if not isinstance(error, msgspec.ValidationError):
        reason = str(error)
        if isinstance(error, RecursionError):
            reason = "nested too deep"
        elif isinstance(error, UnicodeDecodeError):
            reason = f"not UTF-8 ({error.reason})"
        return InvalidRequest(f"the body is not JSON: {reason}", code="invalid_json")
    reason, _, at = str(error).partition(" - at ")
    path = re.sub(r"^`(?:key` in `)?\$\.?|`$", "", at)
    unknown = re.match(r"Object contains unknown field `(.*)`$", reason)
    missing = re.match(r"Object missing required field `(.*)`$", reason)
    if unknown or missing:
        name = (unknown or missing)[1]  # type: ignore[index]  # one of them is
        param = f"{path}.{name}" if path else name
        if missing:
            return InvalidRequest(f"{param} is missing", code="missing_field", param=param)
        return InvalidRequest(
            f"unknown field {param[:200]!r}{_closest(name, path, body_type)}",
            code="unknown_field",
            param=param,
        )
    where = f"{path}: " if path else ""
    return InvalidRequest(f"{where}{reason}", code="invalid_type", param=path or None)


def _closest(name: str, path: str, body_type: type) -> str:
    """'; did you mean X?' where a field of the struct at `path` has a similar name."""
    names = field_names(body_type, path)
    matches = difflib.get_close_matches(name[:100], names, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def field_names(body_type: type, path: str) -> list[str]:
    """Field names of the struct found at a path such as `messages[3].content` of `body_type`."""
    structs = [body_type]
    for part in re.findall(r"[A-Za-z_]\w*", path):
        structs = [
            struct
            for parent in structs
            for spec in msgspec.structs.fields(parent)
            if spec.encode_name == part
            for struct in _structs_in(spec.type)
        ]
    return [spec.encode_name for struct in structs for spec in msgspec.structs.fields(struct)]


def _structs_in(hint: object) -> list[type]:
    """Every msgspec struct named anywhere in a type annotation."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [struct for arm in getattr(hint, "__args__", ()) for struct in _structs_in(arm)]


def _clipped(message: str) -> str:
    raw = message.encode("utf-8", "replace")
    if len(raw) <= MAX_MESSAGE_BYTES:
        return raw.decode()
    return raw[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore") + "..."

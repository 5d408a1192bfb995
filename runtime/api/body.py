"""JSON bodies: read within limits, decoded straight into typed structs; and JSON replies."""

import asyncio
import logging
from typing import TypeVar

import msgspec
from aiohttp import web

from ramify.lang.errors import InvalidRequest
from ramify.runtime.api.errors import invalid_body

Body = TypeVar("Body", bound=msgspec.Struct)

READ_TIMEOUT_S = 30.0  # from the end of the headers to the end of the body
STRICT_HEADER = "X-Ramify-Strict"
_MAX_LOGGED_NAMES = 100

_log = logging.getLogger("ramify.api")
_logged_names: set[str] = set()


async def read_json(request: web.Request, body_type: type[Body]) -> Body:
    """The body as a `body_type`; unknown fields are an error."""
    return decode(await read(request), body_type)


async def read_lenient_json(
    request: web.Request, body_type: type[Body], lenient_type: type[Body]
) -> Body:
    """The body as a `body_type`; unknown fields are ignored and logged once.

    `lenient_type` is `body_type` without `forbid_unknown_fields` (see `lenient`).
    """
    raw = await read(request)
    try:
        return decode(raw, body_type)
    except InvalidRequest as error:
        if error.code != "unknown_field" or request.headers.get(STRICT_HEADER) == "1":
            raise
        name = str(error.param)[:200]
        if name not in _logged_names and len(_logged_names) < _MAX_LOGGED_NAMES:
            _logged_names.add(name)
            _log.warning("%s: ignored unknown field %r (logged once)", request.path, name)
    return decode(raw, lenient_type)


def lenient(body_type: type[Body]) -> type[Body]:
    """`body_type` without `forbid_unknown_fields`."""
    return msgspec.defstruct(  # type: ignore[return-value]  # it is a Body by its bases
        f"Lenient{body_type.__name__}",
        [],
        bases=(body_type,),
        forbid_unknown_fields=False,
        kw_only=True,
    )


def json_response(value: object) -> web.Response:
    """`value` as a JSON reply."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


async def read(request: web.Request) -> bytes:
    """The raw body of a JSON request, refused by type, encoding, size or slowness."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding != "identity" or "x-body-compressed" in request.headers:
        raise InvalidRequest(
            "compressed bodies are not accepted; send plain JSON", code="unsupported_encoding"
        )
    media = request.content_type
    if media != "application/json" and not media.endswith("+json"):
        raise InvalidRequest(
            f"Content-Type {media[:100]!r}: must be application/json",
            code="unsupported_media_type",
        )
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        raise InvalidRequest(
            f"the body did not arrive within {READ_TIMEOUT_S:g} s", code="request_timeout"
        ) from None


def decode(raw: bytes, body_type: type[Body]) -> Body:
    """`raw` as a `body_type`, or an `InvalidRequest` with the path of the field at fault."""
    try:
        raw.decode()  # msgspec does not look into what it leaves as it is
        return msgspec.json.decode(raw, type=body_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_body(error, body_type) from None

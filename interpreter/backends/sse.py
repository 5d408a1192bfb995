"""Server-sent events from raw bytes, however a proxy has cut or merged them."""

from collections.abc import AsyncGenerator, AsyncIterator


async def events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The data of each complete event in `chunks`; comments and other fields are passed over.

    Lines end with LF or CRLF only: JSON text may hold the other line separators of Unicode. An
    event cut off by the end of the stream is not an event.
    """
    rest = b""
    data: list[bytes] = []
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []

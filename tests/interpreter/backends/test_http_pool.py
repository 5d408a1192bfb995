"""A client serves one request after the other, but none after one that was cut off."""

import asyncio

import pytest

from ramify.interpreter.backends.http_pool import HttpPool


async def hold(pool, taken):
    async with pool.client() as client:
        taken.set_result(client)
        await asyncio.Event().wait()


async def test_the_client_used_last_is_used_again():
    pool = HttpPool("http://127.0.0.1:9", {})
    async with pool.client() as first:
        pass
    with pytest.raises(ValueError, match="refused"):
        async with pool.client():
            raise ValueError("refused")
    async with pool.client() as again:
        assert again is first
    await pool.close()


async def test_a_client_whose_request_was_cancelled_serves_no_other():
    pool = HttpPool("http://127.0.0.1:9", {})
    taken = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(hold(pool, taken))
    cut = await taken
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cut.is_closed
    async with pool.client() as other:
        assert other is not cut
    await pool.close()

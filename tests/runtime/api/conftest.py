import pytest

from ramify.runtime.engine import Engine
from tests.runtime.api.serving import nothing_is_left, served


@pytest.fixture(scope="module")
def engine(tiny_model_dir):
    """A real engine with a tiny random model."""
    with Engine(str(tiny_model_dir("llama")), dtype="float32", max_total_tokens=4096) as engine:
        yield engine


@pytest.fixture
async def server(engine):
    """A server around it, which every test leaves as it was."""
    async with served(engine) as server:
        yield server
    await nothing_is_left(engine)

"""A Triton that leaves while it is about to be asked."""

from services.core.adapters.triton_backends import Backend
from services.core.domain.contracts import REGRESSOR


async def test_a_server_that_left_before_it_was_asked_is_not_asked():
    """The connection may be closed between the decision to ask and its turn in the event loop."""
    backend = Backend("127.0.0.1:9")
    asking = backend.ask([(REGRESSOR, 1)])
    await backend.close()
    await asking
    assert backend.ready == set()

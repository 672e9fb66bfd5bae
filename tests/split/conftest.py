"""Short networks and no pictures of losses, so that a federated run of these tests takes a fraction of a second."""

from collections.abc import Iterator

import pytest

from fedvssl import server_rounds
from fedvssl.models import split_resnet
from fedvssl.split import decoder


@pytest.fixture(autouse=True, scope="package")
def _small_things() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split_resnet, "NUM_BLOCKS", 3)
        patch.setattr(decoder, "CHANNELS", 8)
        patch.setattr(server_rounds, "plot_losses", lambda *_: None)
        yield

"""Small random models that the tests of a file share."""

import pytest

from studio.diffusion.families import SDXL
from studio.diffusion.model import Model
from tests.diffusion.small import made


@pytest.fixture(scope="module")
def sd1() -> Model:
    return made()


@pytest.fixture(scope="module")
def xl() -> Model:
    return made(SDXL, 40)

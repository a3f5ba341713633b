"""The checker compiles hundreds of small programs, each to run a few times."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def quick(quick_programs):
    """Compile them in half the time; a verdict may not depend on how a program is optimized."""

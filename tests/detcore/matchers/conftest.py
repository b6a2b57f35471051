from __future__ import annotations

from collections.abc import Iterator

import pytest

from detcore.matchers import chunks


@pytest.fixture(autouse=True, scope="module", params=["together", "one by one"])
def pairs(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is true of a matcher is true however many boxes it looks at together."""
    patch = pytest.MonkeyPatch()
    if request.param == "one by one":
        patch.setattr(chunks, "PAIRS", 1)
    yield
    patch.undo()

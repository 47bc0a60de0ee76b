from __future__ import annotations

import pytest

from photolabel import extras
from photolabel.errors import MissingExtraError


def test_a_missing_package_says_how_to_install_it() -> None:
    expected = r"needs no_such_package.*pip install 'photolabel\[speed\]'"
    with pytest.raises(MissingExtraError, match=expected), extras.needed("speed"):
        import no_such_package.inner  # type: ignore[import-not-found]  # noqa: F401


def test_a_package_that_is_there_is_let_be() -> None:
    with extras.needed("speed"):
        import json
    assert json.loads("1") == 1

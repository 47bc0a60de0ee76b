"""What the page has of a photo, as it saves it: the library's own record, whether the photo is a good one or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from browsers import Stoppable, Watched, browser, done, give
from surfaces import SETTINGS, SURE, Told, told

__all__ = ["browser", "told"]


def test_the_page(browser: Any, told: Told) -> None:
    service = Stoppable(told.classifier, SETTINGS)
    watched = Watched(browser, service.url)
    try:
        page = watched.open()
        assert page.input_value("#sure") == str(SURE)
        give(page, told.photos)
        failed = sum(record["error"] is not None for record in told.records)
        done(page, f"{len(told.photos) - failed} photos named, {failed} could not be")
        with page.expect_download() as download:
            page.click("#save-json")
        assert download.value.suggested_filename == "photolabel.json"
        found = json.loads(Path(download.value.path()).read_bytes())["records"]
        watched.close()
    finally:
        service.stop()
    for record in found:
        above = record.pop("tree", None)  # which the page asks for beside the record
        assert (above is not None) == (record["error"] is None and told.classifier.tree is not None)
    assert found == [{**record, "photo": Path(record["photo"]).name} for record in told.records]

"""The page Add yours as a newcomer meets it, and as a visitor of a server that is open to a network does."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import IN_BROWSER, serving
from tests.compression.zips import roboflow, write_zip

pytestmark = IN_BROWSER


def test_a_bad_file_and_then_a_good_one(own_home: Path, tmp_path: Path, page: Page) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    bad = write_zip(tmp_path / "bad.zip", roboflow(**{"valid/labels/0.txt": "9 0.5 0.5 0.5 0.5\n"}))
    good = write_zip(tmp_path / "cells.zip", roboflow())
    page.set_viewport_size({"width": 390, "height": 844})
    with serving(own_home) as server:
        page.goto(f"{server}/bring")
        upload = page.get_by_test_id("stFileUploaderDropzoneInput").last
        add = page.get_by_role("button", name="Check and add").last

        upload.set_input_files(bad)
        add.click()
        expect(page.get_by_text("bad.zip cannot be used.")).to_be_visible()
        expect(page.get_by_text("valid/labels/0.txt, line 1: class index 9 does not exist")).to_be_visible()

        upload.set_input_files(good)
        add.click()
        expect(page.get_by_text("2 training and 2 validation images, 2 classes")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

        page.get_by_role("button", name="Explore its levels").click()
        expect(page.get_by_role("heading", name="How far can you compress this detector?")).to_be_visible()
        page.wait_for_url("**data=cells**")
        expect(page.get_by_test_id("stException")).to_have_count(0)
    assert errors == []
    assert [each.name for each in (own_home / "brought").glob("data-*")]


def test_a_server_that_listens_everywhere_shows_results_only(own_home: Path, page: Page) -> None:
    with serving(own_home, "--server.address", "0.0.0.0") as server:
        page.goto(f"{server}/bring")
        expect(page.get_by_text("so it shows results only")).to_be_visible()
        expect(page.locator("input")).to_have_count(0)
        page.get_by_role("link", name="Explore").click()
        # The results that are shipped, which it opens on.
        expect(page.get_by_role("button", name="Export comparison CSV")).to_be_visible()
        expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
        assert page.get_by_role("button", name=re.compile("Measure|checkpoint|Fetch")).count() == 0

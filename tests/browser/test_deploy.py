"""The page Deploy as a visitor meets it: a real server, a real Chromium, a real export of a shipped checkpoint."""

from __future__ import annotations

import zipfile
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import IN_BROWSER, serving

pytestmark = IN_BROWSER


def fits(page: Page) -> bool:
    """Whether nothing is wider than the window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def test_a_level_is_exported_compared_and_downloaded(own_home: Path, tiny_shapes: Path, page: Page) -> None:
    with serving(own_home) as server:
        page.goto(f"{server}/deploy?model=yolo26n&data=shapes&level=5")
        expect(page.get_by_text("None of this checkpoint yet.")).to_be_visible()
        data = page.get_by_role("textbox", name="Calibrate and compare on")
        data.fill(str(tiny_shapes))
        data.press("Enter")
        page.get_by_role("spinbutton", name="Image size, px").fill("160")
        page.get_by_role("spinbutton", name="Image size, px").press("Enter")
        # The boxes themselves lie under their labels.
        page.locator(".st-key-format-onnx label").click()
        page.locator(".st-key-format-torchscript label").click()
        expect(page.locator(".st-key-format-torchscript input")).to_be_checked()
        page.get_by_role("button", name="Export").click()
        expect(page.get_by_text("It goes on when you close this page.")).to_be_visible()

        page.reload()
        card = page.locator("[class*=st-key-file-]")
        expect(card).to_contain_text("TorchScript · fp32 · 160 px · e2e head")
        expect(card).to_contain_text("on 6 validation images of tiny-shapes are equal")
        expect(card).to_contain_text('YOLO("yolo26n-level5-e2e-160-fp32.torchscript", task="detect")')
        expect(page.get_by_text("It goes on when you close this page.")).to_have_count(0)
        with page.expect_download() as download:
            card.get_by_role("button", name="Download").click()
        (kept,) = (own_home / "exports").rglob("*.torchscript")
        assert download.value.suggested_filename == kept.name
        assert download.value.path().read_bytes() == kept.read_bytes()
        assert zipfile.is_zipfile(kept)

        assert fits(page)
        page.set_viewport_size({"width": 390, "height": 900})
        page.wait_for_timeout(500)
        assert fits(page)
        expect(page.get_by_test_id("stException")).to_have_count(0)

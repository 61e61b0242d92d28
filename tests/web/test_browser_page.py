"""What an investigator does with the hits, in a real browser."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from browsing import search, until
from playwright.sync_api import Page

from visir.web import audit

pytestmark = pytest.mark.slow


def test_an_original_is_opened_by_button_and_by_key(page: Page, crowd: SimpleNamespace) -> None:
    page.goto(crowd.url)
    page.get_by_label("Your name").fill("Ada")
    search(page, crowd)
    hit = page.locator(".hit").first
    item = hit.get_attribute("data-item")
    source = crowd.state.store.get([int(item)])[int(item)].source
    assert hit.locator(".file").inner_text() == Path(source).name
    hit.get_by_role("button", name=f"Original of image {item}").click()
    page.wait_for_selector("#original[open]")
    until(page, "document.querySelector('#original img').naturalHeight == 48")
    assert Path(source).name in page.inner_text("#original-told")
    page.keyboard.press("Escape")
    page.wait_for_selector("#original:not([open])", state="attached")
    hit.locator(".look").focus()
    page.keyboard.press("o")
    page.wait_for_selector("#original[open]")
    page.get_by_role("button", name="Close the original").click()
    log, _ = audit.entries(crowd.root / "desk" / "audit.jsonl", count=2)
    assert [(entry["action"], entry["by"]) for entry in log] == [("open original", "Ada")] * 2


def test_an_original_that_is_gone_is_said_to_be(crowd: SimpleNamespace, monkeypatch) -> None:
    page = crowd.browser.new_page()
    page.goto(f"{crowd.url}/items/400")
    monkeypatch.setattr("visir.web.originals.os.open", lambda *_: (_ for _ in ()).throw(OSError))
    page.get_by_role("button", name="Original of image 400").click()
    page.get_by_text("Image 400: its file is not there any more").wait_for()
    page.close()

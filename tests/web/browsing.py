"""What the tests do with the page in a browser."""

from __future__ import annotations

import time
from types import SimpleNamespace

from playwright.sync_api import Page

PERSON = 17  # of the crowd, who is searched for


def people(page: Page, crowd: SimpleNamespace) -> list[str]:
    """Who is on the hits, best first."""
    ids = page.eval_on_selector_all(".hit", "all => all.map(hit => Number(hit.dataset.item))")
    known = crowd.state.store.get(ids)
    return [known[item].tags[0] for item in ids]


def until(page: Page, condition: str) -> None:
    """Wait; Playwright's own way evaluates text in the page, which its policy forbids."""
    end = time.monotonic() + 40
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


def search(page: Page, crowd: SimpleNamespace) -> None:
    page.goto(crowd.url)
    page.set_input_files("#files", str(crowd.query))
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_selector(".hit")


def too_wide(page: Page) -> list[str]:
    """What reaches beyond the right edge of the window and cannot be scrolled to."""
    return page.evaluate(
        """() => [...document.querySelectorAll("body *")]
        .filter(one => !one.closest(".scroll, .skip, .hidden-input, .unseen"))
        .filter(one => one.getBoundingClientRect().right > innerWidth + 1)
        .map(one => one.outerHTML.slice(0, 80))"""
    )

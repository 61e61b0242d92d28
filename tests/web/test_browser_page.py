"""What an investigator does with the hits, in a real browser."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bright import BrightEmbedder, listening
from browsing import search, too_wide, until
from PIL import Image
from playwright.sync_api import Page

from visir.gallery.store import model_of
from visir.sources.crop import Entry
from visir.web import audit
from visir.web.app import create_app
from visir.web.case_store import CaseStore
from visir.web.middleware import Rules
from visir.web.state import AppState

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-twenty-letters"


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
    hit.locator(".look").click()
    page.wait_for_selector("#comparison[open]")
    page.locator("#comparison").get_by_role("button", name=f"Original of image {item}").click()
    page.wait_for_selector("#original[open]")
    page.keyboard.press("Escape")  # the comparison stays
    page.wait_for_selector("#original:not([open])", state="attached")
    assert page.locator("#comparison[open]").count() == 1
    log, _ = audit.entries(crowd.root / "desk" / "audit.jsonl", count=4)
    assert [(entry["action"], entry["by"]) for entry in log] == [
        ("open original", "Ada"), ("compare", "Ada"), *[("open original", "Ada")] * 2,
    ]  # fmt: skip


def test_an_original_that_is_gone_is_said_to_be(crowd: SimpleNamespace, monkeypatch) -> None:
    page = crowd.browser.new_page()
    page.goto(f"{crowd.url}/items/400")
    monkeypatch.setattr("visir.web.originals.os.open", lambda *_: (_ for _ in ()).throw(OSError))
    page.get_by_role("button", name="Original of image 400").click()
    page.get_by_text("Image 400: its file is not there any more").wait_for()
    page.close()


def dark_copies(crowd: SimpleNamespace, item: int, count: int) -> list[int]:
    """More images of an image's person, seconds after it and too dark."""
    store = crowd.state.store
    of, jpeg = store.get([item])[item], io.BytesIO()
    Image.new("RGB", (24, 48)).save(jpeg, "JPEG")
    entries = [
        Entry(f"copy {n}", of.camera, of.modality, of.time + n, thumbnail=jpeg.getvalue())
        for n in range(1, count + 1)
    ]
    vectors = np.repeat(store.vectors([item]), count, axis=0)
    return store.add(model_of(BrightEmbedder()), entries, vectors)


def test_a_group_is_opened_and_closed_by_button_and_by_key(
    page: Page, crowd: SimpleNamespace
) -> None:
    search(page, crowd)
    best = page.locator(".hit").nth(1)
    copies = dark_copies(crowd, int(best.get_attribute("data-item")), 3)
    search(page, crowd)
    assert page.locator(".hit:visible").count() == 21
    assert page.locator(".hit").count() == 24
    button = best.get_by_role("button", name="3 more in this minute, probably the same person")
    assert button.get_attribute("aria-expanded") == "false"
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    assert page.locator(".hit:visible").count() == 24
    behind = page.locator(".hit.behind")
    assert [int(one.get_attribute("data-item")) for one in behind.all()] == copies
    assert behind.locator(".rank").all_inner_texts() == ["3", "4", "5"]
    assert behind.first.get_by_text("with rank 2").is_visible()
    button.press("Enter")
    assert page.locator(".hit:visible").count() == 21
    focused = "document.activeElement.closest('.hit').querySelector('.rank').innerText"
    best.locator(".look").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "6"  # those that are hidden are passed over
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("g")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "3"
    page.keyboard.press("h")
    assert page.inner_text("#tally") == "1 right, 0 wrong"
    page.keyboard.press("g")  # on a hit that is about to be hidden
    assert page.evaluate(focused) == "2"
    assert page.locator(".hit:visible").count() == 21
    poor = behind.locator(".doubt")
    until(page, "document.querySelectorAll('.doubt').length == 3")
    said = "Poor crop: too dark, little contrast, few grey levels"
    assert {text.strip() for text in poor.all_text_contents()} == {said}
    crowd.state.store.remove(copies)


def test_a_case_draws_its_hits_and_fits_a_phone(page: Page, crowd: SimpleNamespace) -> None:
    search(page, crowd)
    for place in range(4):
        page.locator(".hit").nth(place).get_by_role("button", name="Right").click()
    page.keyboard.press("k")
    page.get_by_role("combobox", name="Case").select_option("")
    page.get_by_label("Name of the new case").fill("Drawn")
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_text("Kept in Drawn.").wait_for()
    number = crowd.state.case_store.summaries()[0].id
    cameras = {hit.item.camera for hit in crowd.state.case_store.case(number).kept}
    page.goto(f"{crowd.url}/cases/{number}")
    drawing = page.get_by_role("img", name="Kept images by camera and time")
    assert drawing.is_visible()
    shown = drawing.evaluate(
        "one => [...one.querySelectorAll('.name')].map(n => n.firstChild.data)"
    )
    assert set(shown) == cameras
    page.set_viewport_size({"width": 360, "height": 740})
    assert too_wide(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    region = page.get_by_role("region", name="Timeline")
    region.focus()
    page.keyboard.press("ArrowRight")  # its hidden part is reached by keys
    until(page, "document.querySelector('.timeline .scroll').scrollLeft > 0")
    page.get_by_text("As a list").focus()
    page.keyboard.press("Enter")
    assert page.locator(".sightings li:visible").count() == 4
    page.locator(".kept-hit").first.get_by_role("button", name="Original").click()
    page.wait_for_selector("#original[open]")
    assert too_wide(page) == []
    page.keyboard.press("Escape")
    with page.expect_navigation():  # the page is loaded again
        page.get_by_role("button", name="Take out").first.click()
    assert page.locator(".kept-hit").count() == 3


def test_a_former_search_is_shown_again_as_it_was_asked(page: Page, crowd: SimpleNamespace) -> None:
    page.goto(crowd.url)
    page.get_by_label("gate", exact=True).check()
    page.get_by_role("spinbutton", name="Results").fill("7")
    page.get_by_label("From").fill("2026-01-01T00:00:30")
    page.get_by_label("Minimum score").fill("1")
    page.set_input_files("#files", str(crowd.query))
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_selector(".hit")
    shown = page.locator(".hit").evaluate_all("all => all.map(hit => hit.dataset.item)")
    page.goto(crowd.url)
    page.get_by_role("link", name="Searched with one infrared image (cameras gate").first.press(
        "Enter"
    )
    page.wait_for_url("**/?search=*")
    page.wait_for_load_state()  # before that its script does not listen
    assert page.locator(".hit").evaluate_all("all => all.map(hit => hit.dataset.item)") == shown
    page.get_by_text("The images that were sent are not kept").wait_for()
    assert page.get_by_label("gate", exact=True).is_checked()
    assert not page.get_by_label("hall", exact=True).is_checked()
    values = {name: page.input_value(f'[name="{name}"]') for name in ("k", "since", "min_score")}
    assert values == {"k": "7", "since": "2026-01-01T00:00:30", "min_score": "1"}
    page.locator(".look").first.focus()
    page.keyboard.press("h")
    before = page.get_attribute("#found", "data-search")
    page.keyboard.press("r")
    until(page, f"document.querySelector('#found').dataset.search != '{before}'")
    assert set(page.locator(".camera").all_inner_texts()) == {"gate"}
    # Its mark is still there when the refined search is shown again.
    page.goto(crowd.url)
    page.get_by_role("link", name="Refined a search").first.click()
    page.wait_for_selector('.hit[data-mark="hit"]')
    until(page, "document.querySelector('#tally').innerText == '1 right, 0 wrong'")
    page.get_by_role("link", name="Search", exact=True).click()
    page.get_by_role("heading", name="Recent searches").wait_for()


def test_images_chosen_before_the_script_has_come_are_taken(crowd: SimpleNamespace) -> None:
    context = crowd.browser.new_context()
    page, held = context.new_page(), []
    page.route("**/search.js*", lambda route: held.append(route))
    page.goto(crowd.url, wait_until="commit")
    page.wait_for_selector("#files", state="attached")
    page.set_input_files("#files", str(crowd.query))
    assert page.locator("#queries li").count() == 0
    held[0].continue_()
    page.locator("#queries li").wait_for()
    page.get_by_role("button", name="Search", exact=True).click()
    page.wait_for_selector(".hit")
    context.close()


def test_logging_out_by_keys_on_a_phone_ends_the_list_of_searches(
    crowd: SimpleNamespace, tmp_path: Path
) -> None:
    desk = CaseStore(tmp_path)
    state = AppState(crowd.state.service, desk, Rules("127.0.0.1", TOKEN), False)
    with listening(create_app(state)) as url:
        context = crowd.browser.new_context(viewport={"width": 360, "height": 740})
        page = context.new_page()
        log_in(page, url)
        page.set_input_files("#files", str(crowd.query))
        page.get_by_role("button", name="Search", exact=True).press("Enter")
        page.wait_for_selector(".hit")
        page.goto(url)
        page.get_by_role("heading", name="Your recent searches").wait_for()
        assert too_wide(page) == []
        assert page.locator(".recent a").count() == 1
        link = page.locator(".recent a").get_attribute("href")
        page.mouse.click(3, 3)
        while page.evaluate("document.activeElement.id") != "logout":
            page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        page.wait_for_url("**/login")
        page.go_back()
        page.wait_for_url("**/login")
        page.goto(url + link)
        assert page.url == f"{url}/login"
        log_in(page, url)
        assert page.locator(".recent a").count() == 0
        context.close()
    desk.close()


def log_in(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Who are you looking for?").wait_for()
    page.wait_for_load_state()  # before that its script does not listen

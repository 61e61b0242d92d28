"""The page in a real browser, over a gallery of two thousand images."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from bright import BrightEmbedder, listening
from browsing import PERSON, people, search, too_wide, until
from playwright.sync_api import Page
from starlette.types import ASGIApp, Receive, Scope, Send

from visir.gallery.store import Filter
from visir.web import audit
from visir.web.app import create_app
from visir.web.case_store import CaseStore
from visir.web.middleware import Rules
from visir.web.state import AppState

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-twenty-letters"


def test_a_guard_s_night(page: Page, crowd: SimpleNamespace, tmp_path: Path) -> None:
    page.goto(crowd.url)
    page.get_by_label("Your name").fill("Ada Löwe")
    search(page, crowd)
    assert f"person-{PERSON}" in people(page, crowd)[:10]
    assert len(people(page, crowd)) == 24
    assert "1,000 images searched" in page.inner_text("#results")
    until(page, "document.querySelector('.hit img').naturalWidth > 0")

    page.get_by_label("gate", exact=True).check()
    page.get_by_role("button", name="Search", exact=True).click()
    until(page, "!document.querySelector('#results').innerText.includes('1,000')")
    assert set(page.locator(".camera").all_inner_texts()) == {"gate"}
    assert f"person-{PERSON}" in people(page, crowd)[:10]

    mark_and_refine(page, crowd)
    compare(page)
    text = keep_and_export(page, tmp_path)
    for told in ("Night 3, yard", "Ada Löwe", "cameras gate", BrightEmbedder.fingerprint):
        assert told in text
    assert "Same jacket as at the &lt;gate&gt;." in text
    log, _ = audit.entries(crowd.root / "desk" / "audit.jsonl")
    assert [entry["action"] for entry in log[::-1]] == [
        "search", "search", "refine", "compare", "open case", "keep", "export",
    ]  # fmt: skip
    assert {entry["by"] for entry in log} == {"Ada Löwe"}
    assert audit.verify(crowd.root / "desk" / "audit.jsonl").broken is None


def mark_and_refine(page: Page, crowd: SimpleNamespace) -> None:
    """By keys and by buttons, which do the same."""
    shown = people(page, crowd)
    right, wrong = shown.index(f"person-{PERSON}"), len(shown) - 1
    page.locator(".look").nth(right).focus()
    page.keyboard.press("h")
    page.locator(".hit").nth(wrong).get_by_label(re.compile("Wrong")).click()
    assert page.inner_text("#tally") == "1 right, 1 wrong"
    marked = page.locator(".hit").nth(wrong).get_attribute("data-item")
    before = page.get_attribute("#found", "data-search")
    page.locator(".look").nth(right).focus()
    page.keyboard.press("r")
    until(page, f"document.querySelector('#found').dataset.search != '{before}'")
    assert page.locator(f'.hit[data-item="{marked}"]').count() == 0
    assert "Refined by 1 hit and 1 marked wrong" in page.inner_text("#results")
    assert f"person-{PERSON}" in people(page, crowd)[:3]


def compare(page: Page) -> None:
    """The hit that is marked, with the query."""
    page.locator('.hit[data-mark="hit"] .look').focus()
    page.keyboard.press("c")
    page.wait_for_selector("#comparison[open]")
    assert page.locator("#comparison .heat").count() == 2
    page.locator("#heat").uncheck()
    assert page.locator("#comparison .heat").first.is_hidden()
    page.keyboard.press("Escape")


def keep_and_export(page: Page, folder: Path) -> str:
    """The marked hit in a new case, as the exported page."""
    page.get_by_role("button", name="Keep in a case").click()
    page.get_by_label("Name of the new case").fill("Night 3, yard")
    page.get_by_label("Note").fill("Same jacket as at the <gate>.")
    page.get_by_label("Keep the query images as well").check()
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_text("Kept in Night 3, yard.").wait_for()
    page.get_by_role("link", name="Cases").click()
    page.get_by_role("link", name=re.compile("Night 3")).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    download.value.save_as(folder / "case.html")
    return (folder / "case.html").read_text("utf-8")


def test_an_export_stands_alone_and_prints(
    page: Page, crowd: SimpleNamespace, tmp_path: Path
) -> None:
    search(page, crowd)
    page.locator(".hit").first.get_by_label(re.compile("Right")).click()
    page.keyboard.press("k")
    page.get_by_role("combobox", name="Case").select_option("")
    page.get_by_label("Name of the new case").fill("Alone")
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_text("Kept in Alone.").wait_for()
    number = crowd.state.case_store.summaries()[0].id
    page.goto(f"{crowd.url}/cases/{number}")
    page.evaluate("void (window.print = () => { window.printed = document.body.innerText; })")
    page.get_by_role("button", name="Print or save as PDF").click()
    until(page, "window.printed")
    assert "of the audit log" in page.evaluate("window.printed")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    download.value.save_as(tmp_path / "case.html")
    alone = crowd.browser.new_context(offline=True).new_page()
    asked = []
    alone.on("request", lambda request: asked.append(request.url))
    alone.goto(f"file://{tmp_path}/case.html")
    assert alone.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert alone.locator("img").count() == 1
    pdf = alone.pdf()
    assert pdf.startswith(b"%PDF-")
    assert len(pdf) > 5_000
    assert all(url.startswith(("file:", "data:")) for url in asked)


def test_an_indexed_image_is_searched_with_and_deleted(page: Page, crowd: SimpleNamespace) -> None:
    item = crowd.state.store.select(Filter(tags=("person-200",)), 1)[0].id
    page.goto(f"{crowd.url}/items/{item}")
    page.get_by_role("link", name="Search with this image").click()
    page.wait_for_selector(".hit")
    assert "person-200" in people(page, crowd)[:10]
    page.locator(".hit").first.get_by_label(re.compile("Search with image")).click()
    until(page, "document.querySelectorAll('#queries li').length == 1")
    page.goto(f"{crowd.url}/items/{item}")
    page.get_by_role("button", name="Delete from the gallery").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.wait_for_url("**/gallery")
    assert crowd.state.store.get([item]) == {}


def test_a_drop_and_a_paste_are_taken(page: Page, crowd: SimpleNamespace) -> None:
    page.goto(crowd.url)
    page.evaluate(
        """() => {
        const carried = new DataTransfer();
        carried.items.add(new File([new Uint8Array(9)], "a.png", {type: "image/png"}));
        document.body.dispatchEvent(
            new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}));
        document.body.dispatchEvent(
            new ClipboardEvent("paste", {clipboardData: carried, bubbles: true}));
        }"""
    )
    assert page.locator("#queries li").count() == 2
    page.locator(".remove").first.click()
    assert page.locator("#queries li").count() == 1


def test_what_goes_wrong_is_said_in_a_sentence(crowd: SimpleNamespace, tmp_path: Path) -> None:
    page = crowd.browser.new_page()
    page.goto(crowd.url)
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_text("Give an image of the person first").wait_for()
    (tmp_path / "x.png").write_text("no image")
    page.set_input_files("#files", str(tmp_path / "x.png"))
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_text("Image 1: not an image that can be read").wait_for()
    page.close()


def test_everything_fits_a_phone(page: Page, crowd: SimpleNamespace) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for path in ("/", "/?item=400", "/cases", "/gallery", "/items/400", "/audit", "/nothing"):
        if path == "/nothing":
            page.goto(f"{crowd.url}/login")  # which leads home: there is no token here
        else:
            page.goto(crowd.url + path)
        if "item=" in path:
            page.wait_for_selector(".hit")
            page.locator(".look").first.click()
            page.wait_for_selector("#comparison[open]")
        assert too_wide(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_controls_say_in_words_what_they_do(page: Page, crowd: SimpleNamespace) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{crowd.url}/?item=400")
    page.wait_for_selector(".hit")
    shown = page.locator(".hit").first.locator(".marks button").all_inner_texts()
    assert shown == ["Right", "Wrong", "Search", "Original"]
    assert page.locator(".remove").inner_text() == "Remove"
    for path in ("/?item=400", "/cases", "/gallery", "/items/400", "/audit"):
        page.goto(crowd.url + path)
        if "item=" in path:
            page.wait_for_selector(".hit")
        # Buttons show words, which their names begin with; voice control finds them by these.
        odd = page.evaluate(
            """() => [...document.querySelectorAll("button:not(.look)")]
            .filter(one => one.checkVisibility())
            .filter(one => !/^[a-z0-9]/i.test(one.innerText.trim())
                || !(one.ariaLabel ?? one.innerText).startsWith(one.innerText.trim())
                || one.scrollWidth > one.clientWidth)
            .map(one => one.outerHTML.slice(0, 80))"""
        )
        assert odd == [], path


def test_everything_has_a_name_and_a_visible_focus(page: Page, crowd: SimpleNamespace) -> None:
    page.goto(f"{crowd.url}/?item=400")
    page.wait_for_selector(".hit")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, textarea, img")]
        .filter(one => !(one.getAttribute("aria-label") || one.alt || one.innerText?.trim()
            || one.labels?.[0]?.innerText.trim() || one.placeholder))
        .map(one => one.outerHTML.slice(0, 80))"""
    )
    assert nameless == []
    seen = set()
    page.mouse.click(3, 3)  # the next Tab begins at the top
    for _ in range(40):
        page.keyboard.press("Tab")
        told = page.evaluate(
            """() => { const one = document.activeElement;
            const marked = one.matches(".choice input, .pills input") ? one.nextElementSibling
                : one.closest(".drop") ?? one;
            const style = getComputedStyle(marked);
            return [one.outerHTML.slice(0, 60), style.outlineStyle, style.outlineWidth]; }"""
        )
        seen.add(told[0])
        assert told[1:] == ["solid", "3px"] or told[0].startswith("<body"), told
    assert len(seen) > 20


CONTRAST = """() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92
    : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parsed = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = parsed(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !one.checkVisibility() || one.closest("svg, .rank, :disabled, option")) continue;
    const [a, b] = [light(parsed(getComputedStyle(one).color)), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([ratio.toFixed(2), one.outerHTML.slice(0, 80)]);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(page: Page, crowd, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    for path in ("/", "/?item=400", "/cases", "/gallery", "/items/400", "/audit"):
        page.goto(crowd.url + path)
        if "item=" in path:
            page.wait_for_selector(".hit")
        assert page.evaluate(CONTRAST) == [], path
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(248, 247, 244)" if scheme == "light" else "rgb(19, 21, 24)"
        )


@pytest.mark.parametrize("root", ["", "/find"])
def test_with_a_token_one_logs_in_first(crowd: SimpleNamespace, tmp_path: Path, root: str) -> None:
    desk = CaseStore(tmp_path)
    rules = Rules("127.0.0.1", TOKEN, root=root)
    closed = AppState(crowd.state.service, desk, rules, False)
    with listening(create_app(closed)) as url:
        page = crowd.browser.new_context().new_page()
        page.goto(url + root)
        assert page.url == f"{url}{root}/login"
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        page.get_by_text("This is not the token").wait_for()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="Who are you looking for?").wait_for()
        page.set_input_files("#files", str(crowd.query))
        page.get_by_role("button", name="Search", exact=True).click()
        until(page, "document.querySelector('.hit img')?.naturalWidth > 0")
        discard(page, tmp_path / "cases")
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/login")
        page.goto(f"{url}{root}/cases")
        assert page.url.endswith(f"{root}/login")
        page.context.close()
    desk.close()


class SlowScripts:
    """An application whose scripts come late, as over a slow line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path", "").endswith(".js"):
            await asyncio.sleep(1)
        await self.app(scope, receive, send)


def test_a_click_before_the_scripts_have_come_counts(
    crowd: SimpleNamespace, tmp_path: Path
) -> None:
    desk = CaseStore(tmp_path)
    closed = AppState(crowd.state.service, desk, Rules("127.0.0.1", TOKEN), False)
    with listening(SlowScripts(create_app(closed))) as url:
        page = crowd.browser.new_context().new_page()
        page.goto(f"{url}/login", wait_until="commit")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="Who are you looking for?").wait_for()
        page.goto(f"{url}/audit", wait_until="commit")
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/login")
        page.context.close()
    desk.close()


def discard(page: Page, cases: Path) -> None:
    """A damaged case and a file that is none, deleted from the list of cases."""
    (cases / "5.json").write_text("{")
    (cases / "a b&c.txt").write_text("")
    page.get_by_role("link", name="Cases").click()
    page.wait_for_url("**/cases")
    for name in ("5.json", "a b&c.txt"):
        page.get_by_role("button", name=f"Delete {name}").click()
        page.get_by_role("button", name="Delete", exact=True).click()
        page.get_by_role("button", name=f"Delete {name}").wait_for(state="detached")
        assert not (cases / name).exists()

"""The pictures of docs/serve.md: a walk through the search page, with synthetic people only.

python benchmarks/screenshots.py                # about four minutes, with the ready model
python benchmarks/screenshots.py --run runs/demo
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright
from serve import DOCS, fill, served

from visir.core.run import Run
from visir.core.types import Modality
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import load
from visir.evaluation.calibrate import calibrate
from visir.nets.shipped import BUILTIN, builtin_file, is_builtin
from visir.synth.write import synthesise
from visir.web.client import Client
from visir.web.schemas import SearchResponse

IDS, TRAIN_IDS, SEED = 56, 8, 20_260  # of people whom no run has seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path(BUILTIN))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        screenshots(arguments.run, Path(folder))


def screenshots(run: Path, folder: Path) -> None:
    """Everything from the images to the pictures; the search is one that finds the person."""
    people, own = folder / "people", Run(folder / "run")
    synthesise(
        people, ids=IDS, train_ids=TRAIN_IDS, images=3, size="192x96", seed=SEED, progress=False
    )
    own.folder.mkdir()
    shutil.copy(builtin_file() if is_builtin(run) else Run(run).weights, own.weights)
    calibrate(own.folder, people, part="test")
    benchmark = open_benchmark(people)
    fill(load(own.folder), benchmark.test, dict(benchmark.cameras), folder / "gallery")
    crops = [r.path for r in benchmark.test if r.modality is Modality.INFRARED]
    with (
        served(own.folder, folder / "gallery") as (address, _),
        Client(address, operator="Ben") as client,
        sync_playwright() as playwright,
    ):
        crop, found = max(
            ((crop, client.search([crop])) for crop in crops[::40]),
            key=lambda pair: len(right(*pair)) - 100 * pair[1].no_match,
        )
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        walk(chromium, address, crop, right(crop, found))
        chromium.close()


def right(crop: Path, found: SearchResponse) -> list[int]:
    """The hits that show the person of a crop, best first."""
    who = crop.parent.name
    return [hit.item.id for hit in found.hits if Path(hit.item.source).parent.name == who]


def walk(chromium: Browser, address: str, crop: Path, right: list[int]) -> None:
    """Search, mark, compare, add to a case, and take a picture of each; right: hits that are."""
    size: ViewportSize = {"width": 1240, "height": 960}
    page = chromium.new_page(viewport=size)
    page.goto(address)
    page.get_by_label("Your name").fill("Ada")
    page.set_input_files("#files", str(crop))
    page.click("#go")
    page.wait_for_selector(".hit")
    if page.locator(".more").count():
        page.locator(".more").first.click()
    for hit in page.locator(".hit:visible").all()[:6]:
        mark = "hit" if int(hit.get_attribute("data-item") or 0) in right else "miss"
        hit.locator(f'[data-do="{mark}"]').click()
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")
    shoot(page, "search")
    page.locator(".look").first.click()
    page.wait_for_selector("#comparison[open]")
    shoot(page, "compare")
    page.keyboard.press("Escape")
    closed = page.locator('.more[aria-expanded="false"]')
    while closed.count():
        closed.first.click()
    for item in right:
        button = page.locator(f'.hit[data-item="{item}"] [data-do="hit"]')
        if button.get_attribute("aria-pressed") == "false":
            button.click()
    page.get_by_role("button", name="Keep in a case").click()
    page.get_by_label("Name of the new case").fill("Night of the first of January")
    page.get_by_label("Note").fill("Same coat and bag as at the entrance.")
    page.get_by_label("Keep the query images as well").check()
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_text("Kept in").wait_for()
    page.goto(f"{address}/cases/1")
    shoot(page, "case")
    page.goto(f"{address}/?item=5")
    page.wait_for_selector(".hit")
    for path, name in (("/", "start"), ("/gallery", "gallery"), ("/audit", "log")):
        page.goto(address + path)
        shoot(page, name)
    phone = chromium.new_page(viewport={"width": 390, "height": 780}, color_scheme="dark")
    phone.goto(f"{address}/?item=5")
    phone.wait_for_selector(".hit")
    shoot(phone, "phone")


def shoot(page: Page, name: str) -> None:
    """A picture with 256 colours, once everything is there."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(400)
    shot = Image.open(io.BytesIO(page.screenshot()))
    shot.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT).save(
        DOCS / "images" / f"serve-{name}.png", optimize=True
    )


if __name__ == "__main__":
    main()

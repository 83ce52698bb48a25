"""Draws the pictures of README and docs/report.md from the small run in docs/pictures/run, as the report shows it.

    python benchmarks/pictures.py

Needs Chromium and playwright (both of the test extra's browser tests); writes docs/pictures/*.png. The run is
``fdt fit -c task/conventions --arms='[dspo, scores, critiques]' --trainer.max_steps 40 --data.limits.heldout 256
--data.seed 1 --model.seed 1``, of which the transcripts keep the episodes with tokens.
"""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from fdt.report import write_report

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
EPISODE = "ginger-1173"
"""An answer of the right kind with wrong digits: its score is against all of it, its critique against one digit."""
CURVES = ("train/reward/mean", "val/score")
WIDTH = 1000


def open_page(page: Page, report: Path) -> None:
    page.goto(report.as_uri())
    page.locator("details.episode[open]").first.wait_for()


def draw_tokens(page: Page) -> None:
    """One episode: each term's signal, their sum and what the update did, and the numbers of one token."""
    page.locator("#episode-search").fill(EPISODE)
    page.get_by_label("arm", exact=True).select_option(label="dspo")
    expect(page.locator("#episode-count")).to_contain_text("1 of")
    episode = page.locator("details.episode").first
    episode.locator("summary").first.click()
    episode.get_by_role("button", name="all at once").click()
    episode.locator(".sides .t").first.hover()
    episode.screenshot(path=FOLDER / "tokens.png")


def draw_curves(page: Page) -> None:
    """The arms' rewards and held-out scores, with the values under the pointer."""
    page.locator("#curves").scroll_into_view_if_needed()
    others = ", ".join(f"figure.curve:not([data-column='{CURVES[0]}']):not([data-column='{CURVES[1]}'])".split("\n"))
    page.add_style_tag(content=f"{others} {{ display: none }} #curves > p {{ display: none }}")
    for column in CURVES:
        page.locator(f"figure[data-column='{column}'] canvas").wait_for()
    page.evaluate("dispatchEvent(new Event('resize'))")
    page.locator("#curves").screenshot(path=FOLDER / "curves.png")


def draw_page(page: Page, name: str, section: str) -> None:
    page.locator(f"#{section}").screenshot(path=FOLDER / f"{name}.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        report = write_report(FOLDER / "run", Path(folder) / "report.html")
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(
            viewport={"width": WIDTH, "height": 900}, device_scale_factor=1.5, bypass_csp=True
        )
        page = context.new_page()
        open_page(page, report)
        draw_page(page, "arms", "arms")
        draw_curves(page)
        open_page(page, report)
        draw_tokens(page)
        browser.close()


if __name__ == "__main__":
    main()

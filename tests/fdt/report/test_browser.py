"""The page in a real browser: what runs, what is switched and searched, that nothing is asked of anybody outside."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from fdt.report import write_report
from fdt.report.watch import HOST, Watch, build_server
from tests.helpers.run_folder import write_arm, write_lines

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (1280, 390)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium):
    """Opens a page; its ``said`` are console messages and errors, its ``asked`` addresses other than its own."""
    contexts = []

    def visit(path: Path | str, width: int = 1280, **options):
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.said = []
        page.asked = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(path if isinstance(path, str) else path.as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Two arms of two seeds."""
    folder = tmp_path_factory.mktemp("seeds") / "run"
    for number, (name, lr) in enumerate([("plain", 5e-4), ("plain-s2", 5e-4), ("slow", 1e-4), ("slow-s2", 1e-4)]):
        write_arm(folder / name, solved=20 + number, seed=number % 2, lr=lr)
    write_report(folder)
    return folder


def show_curve(page, column: str):
    """The figure of one column, scrolled to, so that it is drawn."""
    figure = page.locator(f"figure[data-column='{column}']")
    figure.scroll_into_view_if_needed()
    figure.locator("canvas").wait_for()
    return figure


def count_orange(page, panel: str) -> int:
    """Pixels of one plot in the colour of the second arm."""
    count = """c => {
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let found = 0;
        for (let n = 0; n < d.length; n += 4) found += d[n + 3] > 99 && d[n] - d[n + 2] > 60;
        return found;
    }"""
    return page.locator(f"figure[data-column='{panel}'] canvas").evaluate(count)


@pytest.mark.parametrize("width", WIDTHS)
def test_opens_without_a_message_a_request_or_a_part_that_sticks_out(written, browse, width):
    page = browse(written / "report.html", width)
    show_curve(page, "train/kl_init")
    page.locator("details.episode[open] .t").first.wait_for()
    assert page.said == []
    assert page.asked == [(written / "report.html").as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # What strangers wrote is text: no element of theirs exists.
    assert page.locator("img[src=x]").count() == 0
    assert "<script>alert(1)</script>" in page.locator("#tokens").inner_text()


def test_the_policy_would_stop_a_script_that_slipped_in(written, tmp_path, browse):
    page = tmp_path / "attacked.html"
    attack = "<script>document.title = 'taken'</script><img src=https://example.org/x.png></body>"
    page.write_text((written / "report.html").read_text(encoding="utf-8").replace("</body>", attack), encoding="utf-8")
    shown = browse(page)
    assert len(shown.said) >= 2
    assert shown.title() == "run: run report"


@pytest.mark.parametrize("width", WIDTHS)
def test_without_script_pictures_and_some_episodes_are_shown(written, browse, width):
    page = browse(written / "report.html", width, java_script_enabled=False)
    assert page.locator("#curves img").count() >= 8
    assert page.locator("details.episode[open] .tokens-text").first.is_visible()
    box = page.locator("#curves img").first.bounding_box()
    assert box["width"] > 200
    assert page.locator("#calibration img").first.bounding_box()["width"] > 200


def test_without_script_tokens_are_coloured_by_the_chosen_view(written, tmp_path, browse):
    page = browse(written / "report.html", java_script_enabled=False)
    pictures = []
    for view in ("sum", "term1"):
        page.locator(f"label[for=view-{view}]").click()
        page.locator("details.episode[open]").first.screenshot(path=tmp_path / f"{view}.png")
        pictures.append(imread(tmp_path / f"{view}.png")[..., :3])
    blue = [(picture[..., 2] - picture[..., 0] > 0.15).sum() for picture in pictures]
    assert min(blue) > 300
    assert (np.abs(pictures[0] - pictures[1]).max(-1) > 0.1).sum() > 300


def test_pointing_at_a_curve_shows_its_value_there(written, browse):
    page = browse(written / "report.html")
    figure = show_curve(page, "train/kl_init")
    figure.locator(".u-over").hover(position={"x": 1, "y": 50})
    # The helper logs 0.01 a step, so 0 at step 0, and smoothing leaves a straight line's inside as it is.
    assert figure.locator(".values .at").inner_text() == "step 0"
    first = figure.locator(".values").inner_text()
    figure.locator(".plot").focus()
    page.keyboard.press("ArrowRight")
    assert figure.locator(".values .at").inner_text() == "step 1"
    assert figure.locator(".values").inner_text() != first
    assert "on-policy: 0.01" in figure.locator(".values").inner_text().replace("\n", "")


def test_arms_and_seeds_are_switched_off_and_on(seeds, browse):
    page = browse(seeds / "report.html")
    panel = "train/reward/mean"
    values = show_curve(page, panel).locator(".values")
    assert "plain (mean of 2 seeds)" in values.inner_text()
    assert count_orange(page, panel) > 100
    page.get_by_label("slow", exact=True).uncheck()
    assert "slow" not in values.inner_text()
    assert count_orange(page, panel) == 0
    page.get_by_label("mean, lowest and highest seed").uncheck()
    assert "plain, seed 1" in values.inner_text()
    page.get_by_label("seed 2").uncheck()
    assert "seed 2" not in values.inner_text()
    page.get_by_label("slow", exact=True).check()
    assert "slow, seed 1" in values.inner_text()
    page.get_by_label("logarithmic").check()
    page.locator("#arms").get_by_text("plain − slow").wait_for()
    assert page.said == []


def test_a_search_finds_an_episode_and_filters_narrow_the_list(written, browse):
    page = browse(written / "report.html")
    count = page.locator("#episode-count")
    page.locator("details.episode[open]").wait_for()
    playwright.expect(count).to_have_text(
        "48 of 96 episodes"
    )  # two arms, twelve steps, four rows of which two have tokens
    page.get_by_label("with tokens").uncheck()
    playwright.expect(count).to_have_text("96 of 96 episodes")
    page.locator("#episode-search").fill("e7-3")
    playwright.expect(count).to_have_text("2 of 96 episodes")
    page.locator("#episode-search").fill("tens were added twice")  # in the critique alone
    playwright.expect(count).to_have_text("48 of 96 episodes")
    page.locator("#episode-search").fill("")
    page.get_by_label("arm", exact=True).select_option(label="replay")
    page.get_by_label("score from").fill("0.5")
    playwright.expect(count).to_have_text("24 of 96 episodes")
    page.get_by_label("sort").select_option(label="terms disagree most")
    assert page.said == []


def test_a_token_is_explained_under_the_pointer_and_by_keyboard(written, browse):
    page = browse(written / "report.html")
    episode = page.locator("details.episode[open]").first
    episode.locator(".t").nth(3).hover()
    inspector = episode.locator(".inspector").inner_text()
    for part in ("log p before", "log p of the teacher", "term policy", "term distill", "0.5 ×", "sum"):
        assert part in inspector, part
    episode.locator(".tokens-text").focus()
    page.keyboard.press("ArrowRight")
    assert episode.locator(".inspector").inner_text() != inspector
    page.get_by_role("button", name="distill").first.click()
    assert episode.locator("button[aria-pressed=true]").inner_text() == "distill"


def test_a_conversation_is_shown_turn_by_turn(browse, tmp_path):
    arm = write_arm(tmp_path / "arm")
    signals = {"logp": -1.0, "after": -0.5, "signal/policy": 0.5, "weight/policy": 0.25}
    tokens = [{"text": text, "turn": turn, **signals} for text, turn in (("look", 0), (" up", 0), ("Paris", 1))]
    said = [{"source": "human", "annotator": "kim", "name": "score", "score": 0.25, "text": "Needless."}]
    calls = [{"id": "1", "name": "search", "arguments": "{}"}]
    turns = [
        {"role": "assistant", "text": "look up", "calls": calls, "feedback": said},
        {"role": "tool", "text": "<b>Paris</b> is the capital."},
        {"role": "assistant", "text": "Paris"},
    ]
    critics = [{"source": "human", "annotator": "kim", "trust": 0.8}]
    record = {"step": 1, "id": "c", "prompt": "Capital?", "critique": "Fine.", "critique_by": critics, "turns": 2}
    write_lines(arm / "transcripts.jsonl", [{**record, "conversation": turns, "tokens": tokens}])
    page = browse(write_report(arm))
    found = page.locator("details.episode[open] li.turn")
    playwright.expect(found).to_have_count(3)
    assert "kim: score 0.25" in found.nth(0).inner_text()
    assert "calls search" in found.nth(0).inner_text()
    assert found.nth(0).locator(".t").all_inner_texts() == ["look", " up"]
    assert found.nth(1).inner_text().split("\n")[-1] == "<b>Paris</b> is the capital."
    assert found.nth(2).locator(".t").all_inner_texts() == ["Paris"]
    page.locator("details.episode[open] .t").first.hover()
    numbers = page.locator("details.episode[open] .inspector").inner_text()
    assert "1 × weight 0.25 × +0.500 = +0.125" in numbers
    assert "+0.500" in numbers.split("log p after")[1].split("\n")[0]
    assert "critique by kim, trust 0.8" in page.locator("details.episode[open]").inner_text()
    page = browse(arm / "report.html", java_script_enabled=False)
    page.locator("details.episode details summary", has_text="turn by turn").first.click()
    shown = page.locator("details.episode div.turn")
    playwright.expect(shown).to_have_count(3)
    assert shown.nth(0).inner_text().split("\n")[-3:] == [
        "look up",
        "calls search: {}",
        "judged by kim: score 0.25, Needless.",
    ]


@pytest.mark.slow
def test_a_served_page_grows_while_a_run_writes(browse, chromium, tmp_path):
    done = write_arm(tmp_path / "done" / "arm")
    early = tmp_path / "arm"
    early.mkdir()
    shutil.copy(done / "config.yaml", early)
    server = build_server(Watch([early]), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        page = browse(f"http://{HOST}:{server.server_port}/")
        playwright.expect(page.locator("#live-state")).to_contain_text("last written")
        assert page.locator(".curve").count() == 0
        shutil.copytree(done, early, dirs_exist_ok=True)
        playwright.expect(page.locator("#episode-count")).to_have_text("24 of 48 episodes", timeout=30_000)
        show_curve(page, "train/reward/mean")
        playwright.expect(page.locator("#table tbody tr")).to_have_count(2)
        page.locator("details.episode .t").first.wait_for()  # its text was asked for
        with (early / "transcripts.jsonl").open("a") as file:
            # The helper's last line is half written, as by a run that is at it.
            file.write('"}\n' + json.dumps({"step": 99, "id": "late", "prompt": "late"}) + "\n")
        playwright.expect(page.locator("#episode-count")).to_contain_text("50 episodes", timeout=30_000)
        assert page.said == []
        assert all(address.startswith(f"http://{HOST}:{server.server_port}/") for address in page.asked)
    finally:
        server.shutdown()
        server.server_close()


def test_a_head_sorts_its_table(written, browse):
    page = browse(written / "report.html")
    head = page.locator("#table th button", has_text="score").first
    names = page.locator("#table tbody td:first-child")
    head.click()
    assert names.all_inner_texts() == ["base", "replay", "on-policy"]
    head.click()
    assert names.all_inner_texts() == ["on-policy", "replay", "base"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_serious_finding_of_axe(seeds, browse, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page = browse(seeds / "report.html", width, color_scheme=scheme, bypass_csp=True)
    page.locator("details.episode[open] .t").first.hover()
    show_curve(page, "train/kl_init")
    found = axe.Axe().run(page).response["violations"]
    serious = [(one["id"], one["nodes"]) for one in found if one["impact"] in ("serious", "critical")]
    assert [(rule, [node["html"][:200] for node in nodes]) for rule, nodes in serious] == []

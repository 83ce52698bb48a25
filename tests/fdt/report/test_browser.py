"""The page in a real browser: no console message, nothing runs, and it fits a phone."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --enable-logging=stderr"
).split()

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
    pytest.mark.timeout(180),
]


def browse(page: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess:
    """Opens `page`; stdout has the document where asked for, stderr the console."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def console(result: subprocess.CompletedProcess) -> list[str]:
    """What pages wrote to the console, refusals by the content policy included."""
    return re.findall(r".*CONSOLE.*", result.stderr)


def test_opens_without_a_console_message_and_runs_nothing(written, tmp_path):
    result = browse(written / "report.html", tmp_path / "profile", "--dump-dom")
    assert console(result) == []
    assert "<script" not in result.stdout
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in result.stdout


def test_the_policy_would_stop_a_script_that_slipped_in(written, tmp_path):
    page = tmp_path / "attacked.html"
    attack = "<script>document.title = 'taken'</script><img src=https://example.org/x.png></body>"
    page.write_text((written / "report.html").read_text(encoding="utf-8").replace("</body>", attack), encoding="utf-8")
    result = browse(page, tmp_path / "profile", "--dump-dom")
    assert len(console(result)) >= 2
    assert "<title>run: run report</title>" in result.stdout


@pytest.mark.parametrize("width", [1280, 390])
def test_fits_the_width_of_a_desk_and_of_a_phone(written, tmp_path, width):
    # Chromium's own window is never narrower than 500 pixels; a frame is. Left of it nothing, so nothing may stick out.
    frame = tmp_path / "frame.html"
    shutil.copy(written / "report.html", tmp_path)
    style = f"width:{width}px;height:3000px;border:0"
    probe = "document.title = f.contentDocument.documentElement.scrollWidth"
    frame.write_text(f"<iframe id=f src=report.html style='{style}' onload='{probe}'></iframe>")
    result = browse(frame, tmp_path / "profile", "--allow-file-access-from-files", "--dump-dom")
    assert f"<title>{width}</title>" in result.stdout


@pytest.mark.parametrize("width", [1280, 390])
def test_the_calibration_panel_is_drawn(written, tmp_path, width):
    html = (written / "report.html").read_text(encoding="utf-8")
    only = html.replace("</style>", "header, section:not(#calibration) { display: none } </style>")
    (tmp_path / "only.html").write_text(only, encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"<style>body{{margin:0}}</style><iframe src=only.html style='width:{width}px;height:1900px;border:0'>"
    )
    shot = tmp_path / "shot.png"
    browse(
        frame, tmp_path / "profile", "--allow-file-access-from-files", "--window-size=1280,1900", f"--screenshot={shot}"
    )
    picture = imread(shot)[:, :width, :3]
    blue = (picture[..., 2] - picture[..., 0] > 0.4) & (picture[..., 1] < 0.6)
    assert blue.sum() > 1000, "an arm's line and bars are in its colour"
    # Pictures keep their size on a phone: the panel's own is as wide as the column, however narrow that is.
    columns = np.flatnonzero(blue.any(0))
    assert columns.max() - columns.min() > 200


def test_tokens_are_coloured_by_the_chosen_view(written, tmp_path):
    html = (written / "report.html").read_text(encoding="utf-8")
    pictures = {}
    for view in ("sum", "term1"):
        # The tokens alone at the top of the page, with one view or the other chosen.
        only = html.replace("</style>", "header, section:not(#tokens) { display: none } </style>")
        only = only.replace('id="view-sum" checked', 'id="view-sum"')
        only = only.replace(f'id="view-{view}"', f'id="view-{view}" checked', 1)
        assert only.count(" checked") == 1
        (tmp_path / f"{view}.html").write_text(only, encoding="utf-8")
        shot = tmp_path / f"{view}.png"
        browse(tmp_path / f"{view}.html", tmp_path / "profile", "--window-size=1280,1000", f"--screenshot={shot}")
        pictures[view] = imread(shot)[200:, :, :3]
    for picture in pictures.values():
        red, blue = picture[..., 0], picture[..., 2]
        assert (blue - red > 0.15).sum() > 1000
    # Rows without a critique are plain in the view of distillation, and the two views differ.
    assert (np.abs(pictures["sum"] - pictures["term1"]).max(-1) > 0.1).sum() > 1000

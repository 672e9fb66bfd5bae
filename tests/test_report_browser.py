"""The report in headless Chromium: pictures load, the console stays silent, a telephone needs no sideways scrolling."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fedvssl import report
from tests.run_folders import write_evaluations, write_finetuning, write_pretraining

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
WIDTHS = (1280, 400)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update"),
    *("--disable-background-networking", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=10000"),
    "--allow-file-access-from-files",  # so that the page around may look into the frames
]
# A window cannot be as narrow as a telephone, a frame in it can.
AROUND = """<!DOCTYPE html><body>%s<pre id="seen"></pre><script>
window.onload = () => {
  const seen = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, all = (names) => [...page.querySelectorAll(names)];
    const box = (element) => element.getBoundingClientRect();
    seen[frame.width] = {
      broken: [...page.images].filter((image) => !image.naturalWidth).length,
      images: page.images.length,
      width: page.documentElement.scrollWidth,
      charts: all("svg").map((svg) => box(svg).width),
      cut: all("h1, h2, p, dl, figure, nav, .scroll, pre").filter((part) => box(part).right > frame.width).length,
    };
  }
  document.getElementById("seen").textContent = JSON.stringify(seen);
};
</script></body>"""


def look(page: Path, folder: Path) -> tuple[dict[str, dict], list[str]]:
    """What a browser finds on the page, by width, and the lines of its console."""
    frames = "".join(f'<iframe src="{page.as_uri()}" width="{width}" height="800"></iframe>' for width in WIDTHS)
    around = folder / "around.html"
    around.write_text(AROUND % frames)
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", around.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=True)
    seen = re.search(r'<pre id="seen">(.+?)</pre>', done.stdout)
    assert seen, done.stdout + done.stderr
    return json.loads(html.unescape(seen[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_the_report_looks_right_at_both_widths(tmp_path: Path) -> None:
    run, finetuned = write_pretraining(tmp_path / ("long" * 20)), write_finetuning(tmp_path / "finetuned")
    write_evaluations(finetuned, "last")
    assert report.main([str(run), "--include", str(finetuned)]) == 0
    seen, console = look(run / "report.html", tmp_path)
    assert console == []
    for width in WIDTHS:
        found = seen[str(width)]
        assert found["images"] == 13 and found["broken"] == 0
        assert found["width"] <= width and found["cut"] == 0
        assert min(found["charts"]) >= (340 if width == 400 else 500)


def test_a_folder_without_anything_looks_right_too(tmp_path: Path) -> None:
    run = write_pretraining(tmp_path, evaluated=False)
    (run / "metrics.jsonl").unlink()
    assert report.main([str(run)]) == 0
    seen, console = look(run / "report.html", tmp_path)
    assert console == [] and all(seen[str(width)]["width"] <= width for width in WIDTHS)


def test_this_test_would_notice(tmp_path: Path) -> None:
    """A picture that does not load, a page that is too wide, an error of a script."""
    page = tmp_path / "bad.html"
    page.write_text(
        '<!DOCTYPE html><img src="data:image/png;base64,AAAA"><p style="width:900px">x</p><script>lost()</script>'
    )
    seen, console = look(page, tmp_path)
    assert seen["400"]["broken"] == 1 and seen["400"]["width"] > 400 and seen["400"]["cut"] == 1
    assert any("lost is not defined" in line for line in console)

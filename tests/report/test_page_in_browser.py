"""The page in a real browser, on a desk and on a phone: no error, nothing wider than the screen, and it answers."""

import html
import json
import re
import shutil
import subprocess

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-sync",
    "--disable-component-update",
    "--allow-file-access-from-files",
    "--virtual-time-budget=8000",
    "--window-size=1400,900",
    "--dump-dom",
]

LISTEN = """<script>
  var errors = [];
  addEventListener("error", (event) => errors.push(event.message));
  addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective));
  console.error = console.warn = (...words) => errors.push(words.join(" "));
</script>"""

PROBE = """<script>
setTimeout(() => {
  const widths = [document.documentElement.scrollWidth];
  const tooltip = document.querySelector(".tooltip");
  const told = [...document.querySelectorAll(".point")].map((point) => {
    point.dispatchEvent(new Event("focus"));
    widths.push(document.documentElement.scrollWidth);
    return tooltip.hidden ? "" : tooltip.textContent;
  });
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
  const axis = document.getElementById("explorer-axis");
  if (tooltip) {
    axis.value = "training_flops";
    axis.dispatchEvent(new Event("change"));
  }
  const firstCells = () => [...document.querySelectorAll("#runs tbody tr")].map((row) => row.cells[6].textContent);
  const heads = document.querySelectorAll("#runs th button");
  heads[6].click();
  const rising = firstCells();
  heads[6].click();
  parent.postMessage(JSON.stringify({
    errors, told, widths, room: innerWidth, closed: !tooltip || tooltip.hidden, rising, falling: firstCells(),
    axis: [...document.querySelectorAll("#explorer-plot text")].some((text) => text.textContent === "training FLOPs"),
    spilling: [...document.querySelectorAll("main *")].filter((element) => !element.closest(".scroll, svg, .tooltip")
      && element.getBoundingClientRect().right > innerWidth + 0.5).map((element) => element.outerHTML.slice(0, 80)),
  }), "*");
}, 1000);
</script>"""

WRAPPER = """<!doctype html><body style="margin:0">
<iframe src="probed.html" style="border:0;width:{width}px;height:900px"></iframe>
<pre></pre><script>onmessage = (event) => document.querySelector("pre").textContent = event.data;</script>"""


def probe(page, width, tmp_path):
    """What the page says of itself at this width; an iframe is a screen as narrow as no window may be."""
    probed = page.read_text().replace("<head>", f"<head>{LISTEN}").replace("</body>", f"{PROBE}</body>")
    (tmp_path / "probed.html").write_text(probed)
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(WRAPPER.format(width=width))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}"]
    answer = subprocess.run([*command, wrapper.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r"<pre>(.+?)</pre>", answer.stdout, re.DOTALL)
    assert found, f"the browser gave no answer: {answer.stderr[-500:]}"
    return json.loads(html.unescape(found[1]))


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look at the page with")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["full", "empty"])
def test_the_page_fits_its_screen_and_answers(folder, empty_folder, kind, width, tmp_path):
    page = (folder if kind == "full" else empty_folder) / "report.html"
    seen = probe(page, width, tmp_path)
    assert seen["errors"] == []
    assert seen["room"] == width
    assert max(seen["widths"]) <= width
    assert seen["spilling"] == []
    designs = 11 if kind == "full" else 0
    assert len(seen["told"]) == designs
    assert all("seed 1" in words and "learning rate" in words for words in seen["told"])
    assert len({words[:20] for words in seen["told"]}) == designs
    assert seen["closed"]
    assert seen["axis"] == (kind == "full")
    assert len(seen["rising"]) == 46
    if kind == "full":
        assert seen["rising"] != seen["falling"]
        assert sorted(seen["rising"]) == sorted(seen["falling"])


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look at the page with")
def test_critical_widths_fit_a_phone(swept_folder, tmp_path):
    seen = probe(swept_folder / "report.html", 390, tmp_path)
    assert seen["errors"] == []
    assert max(seen["widths"]) <= 390
    assert seen["spilling"] == []

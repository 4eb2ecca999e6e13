"""The book of a run: what goes into it, and what a reader sees who opens it from a disk in headless Chromium."""

import base64
import io
import json
import re
import shutil
import sys
import time
from html.parser import HTMLParser

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from lib.files import ROOT
from lib.report.api import Module, families, find_modules
from lib.report.book import build_book, repository_address
from lib.report.links import Links
from lib.report.notebooks import clean, find_pages
from lib.report.tables import claims_table, read_claims

OWN = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
FIRST, SECOND, HIDDEN = OWN[0], OWN[-1], OWN[1]
SECRET = "zzSECRETzz"
PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
CLAIMS = """id,where,claim,paper,measured,n_slices,n_patients,verdict,by_construction
C1,Fig 1,Saliency marks the kidney,seen,enrichment 2.5,150,30,reproduced,
C2,Fig 2,CAM is <script>less</script> specific,lower,-3 [-9; 2],20,4,not reproduced,
C10,Table 2,Order of the phases,noncon first,rho 0.9,1850,174,reproduced,the phantom's phases are cuts
C9,Results,A grid of networks,27,none,0,0,not tested here,
"""


def png(width, height):
    image = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (height, width), np.uint8)).save(image, "PNG")
    return base64.b64encode(image.getvalue()).decode()


def stream(name, text):
    return new_output("stream", name=name, text=text)


def executed_notebook():
    """A notebook as papermill leaves it, with one of everything that a page must show or must not."""
    bar = "\rphantom:   0%|          | 0/60 [00:00<?, ?patient/s]\rphantom: 100%|█| 60/60 [02:25<00:00, 2.4s/patient]\n"
    wide = pd.DataFrame(np.arange(80).reshape(2, 40), columns=[f"column {n}" for n in range(40)])
    cells = [
        new_markdown_cell(
            f"# 00 · Zebrafish\n\nThe score is $p_c = \\sigma(m)$, see [the other]({SECOND}.ipynb).\n\n"
            "$$\\frac{\\partial p_c}{\\partial x}$$\n\n![As published](../figures/fig1.png)\n\n"
            "[the voting rules](../tables/voting_rules.csv), [the rule](../lib/voting.py)"
        ),
        new_code_cell("import numpy as np"),
        new_code_cell("fraction: float = 0.1  # of the voxels", metadata={"tags": ["parameters"]}),
        new_code_cell("# Parameters\nfraction = 0.2\n", metadata={"tags": ["injected-parameters"]}),
        new_markdown_cell("## A figure"),
        new_code_cell(
            "figure",
            outputs=[
                stream("stderr", bar + "I0000 00:00:1.2 7 cudart_stub.cc:31] Could not find cuda drivers\n"),
                stream("stderr", "a warning worth reading\n"),
                stream("stderr", "a warning worth reading\n"),
                stream("stdout", f"written: {ROOT}/runs/quick/claims.csv\n"),
                new_output(
                    "display_data",
                    {"image/png": png(1200, 600), "text/plain": "<Figure size 600x300 with 1 Axes>"},
                    metadata={"image/png": {"width": 600, "height": 300}},
                ),
                new_output("execute_result", {"text/html": wide.to_html(), "text/plain": str(wide)}),
                new_output("display_data", {"text/markdown": "| claim | n |\n|---|---|\n| **C1** | 15 |\n"}),
            ],
        ),
    ]
    return new_notebook(cells=cells, metadata=PYTHON)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a run with one executed notebook, one that stopped, a private one, and nothing else."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "private/notebooks").mkdir(parents=True)
    nbformat.write(executed_notebook(), folder / f"notebooks/{FIRST}.ipynb")
    error = new_output("error", ename="ValueError", evalue="no slice is left", traceback=["ValueError"])
    stopped = new_notebook(
        cells=[new_markdown_cell("# 93 · Stopped"), new_code_cell("1 / 0", outputs=[error])], metadata=PYTHON
    )
    nbformat.write(stopped, folder / f"notebooks/{SECOND}.ipynb")
    private = new_notebook(cells=[new_markdown_cell("# Private"), new_code_cell(f'source = "{SECRET}"')])
    nbformat.write(private, folder / f"private/notebooks/{HIDDEN}.ipynb")
    (folder / f"notebooks/{HIDDEN}.ipynb").symlink_to(folder / f"private/notebooks/{HIDDEN}.ipynb")
    (folder / "private/sources.csv").write_text(SECRET)
    (folder / "claims.csv").write_text(CLAIMS)
    return folder


@pytest.fixture(scope="module")
def built(run, tmp_path_factory):
    """Return the site of that run, with four light modules and one that holds an equation, and what Sphinx said."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "equation_of_a_test.py").write_text(
        '"""A module."""\n\n\ndef area(r):\n    """Return the area, |r| being the radius.\n\n'
        '    Parameters\n    ----------\n    r : float, mm\n        Radius.\n\n    Notes\n    -----\n'
        '    .. math:: A = \\\\pi |r|^2\n    """\n'
    )  # fmt: skip
    light = ("lib.voting", "lib.metrics", "lib.labels", "lib.report.links")
    modules = {name: module for name, module in find_modules().items() if name in light}
    modules["equation_of_a_test"] = Module("A module.", ("area",))
    said, stderr = io.StringIO(), sys.stderr
    sys.path.insert(0, str(folder))
    sys.stderr = said
    try:
        start = time.monotonic()
        index = build_book(run, modules=modules)
    finally:
        sys.stderr = stderr
        sys.path.remove(str(folder))
    print(f"book: {time.monotonic() - start:.0f} s")
    return index.parent, said.getvalue()


# What goes into the book


def test_every_notebook_has_a_page_with_its_state(run):
    pages = {page.name: page for page in find_pages(run)}
    assert list(pages) == OWN
    assert pages[FIRST].state == "executed" and pages[SECOND].state == "failed" and pages[HIDDEN].state == "private"
    assert {page.state for name, page in pages.items() if name not in (FIRST, SECOND, HIDDEN)} == {"not run"}
    assert all(page.title for page in pages.values())


@pytest.mark.parametrize("name, part", [
    ("01_prepare_cohort", "Data"), ("02_train_network", "Network"), ("04_vote_slices", "Network"),
    ("07_fig1_final_layer_maps", "Maps"), ("08_fig2_masking_specificity", "Masking"), ("13_anatomy_of_maps", "Anatomy"),
    ("17_compare_with_paper", "Claims"), ("90_measure_speed", "Beyond the paper"),
])  # fmt: skip
def test_notebooks_stand_under_the_parts_of_the_paper(run, name, part):
    page = find_pages(run)[0]._replace(name=name)
    assert page.part == part


def test_noise_is_gone_and_what_is_worth_reading_stays(run):
    page = next(page for page in find_pages(run) if page.name == FIRST)
    notebook = clean(page, Links({}), "runs/tiny")
    text = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert text == "a warning worth reading\nwritten: runs/quick/claims.csv\n"
    folded = [cell.source.split()[0] for cell in notebook.cells if "hide-input" in cell.metadata.get("tags", [])]
    assert folded == ["import", "fraction:", "#"]
    figure = next(cell for cell in notebook.cells if cell.source == "figure")
    assert figure.metadata["mystnb"]["image"]["alt"] == "A figure"


@pytest.mark.parametrize("markdown, wanted", [
    ("[a](notebooks/01.ipynb#load)", "[a](notebooks/01.ipynb#load)"),
    ("[`v`](lib/voting.py)", "{py:mod}`v <lib.voting>`"),
    ("[l](LICENSE)", '<a href="LICENSE">l</a>'),
    ("[t](tables/voting_rules.csv)", "[t](tables/voting_rules.md)"),
    ("[folder](notebooks)", "folder"),
    ("[gone](no/such.md)", "gone"),
    ("[out](../elsewhere.md)", "out"),
    ("[doi](https://doi.org/1)", "[doi](https://doi.org/1)"),
    ("![s](figures/fig1.png)", "![s](figures/fig1.png)"),
    ("[![Binder](https://mybinder.org/badge.svg)](https://mybinder.org/x)", "[Binder](https://mybinder.org/x)"),
    ('<img src="https://x.org/a.png" width="3">', ""),
    ('<a href="notebooks/01.ipynb">x</a>', '<a href="notebooks/01.html">x</a>'),
    ("```sh\n[l](LICENSE)\n```\n", "```sh\n[l](LICENSE)\n```\n"),
])  # fmt: skip
def test_links_of_the_repository_become_links_of_the_book(markdown, wanted):
    links = Links({"notebooks/01.ipynb": "notebooks/01.ipynb"}, {"lib.voting"})
    assert links.rewrite(markdown, "index.md") == wanted
    assert links.missing == [p for p in ("no/such.md", "../elsewhere.md") if p in markdown]


def test_links_count_from_the_page_and_are_remembered():
    links = Links({"README.md": "index.md", "tables/claims.md": "tables/claims.md"})
    assert links.rewrite("[c](tables/claims.csv)", "index.md") == "[c](tables/claims.md)"
    text = "![](../figures/fig1.png) [up](../README.md) [c](../CITATION.cff)"
    assert links.rewrite(text, "notebooks/01.ipynb") == (
        '![](../figures/fig1.png) [up](../index.md) <a href="../CITATION.cff">c</a>'
    )
    same = '<img src="../figures/fig2.png" width="600">'
    assert links.rewrite(same, "notebooks/01.ipynb") == same and "figures/fig2.png" in links.files
    links.files.remove("figures/fig2.png")
    assert links.pictures == {"figures/fig1.png"} and links.files == {"CITATION.cff"} and not links.missing


def test_every_module_is_on_one_page_and_its_members_are_found_without_importing_it():
    modules = find_modules()
    placed = [name for names in families(modules).values() for name in names]
    assert sorted(placed) == sorted(modules) and len(modules) > 50
    assert "more" not in families(modules)
    assert families(["lib.voting", "lib.unheard_of"])["more"] == ["lib.unheard_of"]
    assert {"find_modules", "families", "write_api"} <= set(modules["lib.report.api"].members)
    assert "vote" in modules["lib.voting"].members and modules["lib.voting"].summary.startswith("Voting: the prob")


def test_a_table_of_claims_without_a_verdict_is_refused(tmp_path):
    (tmp_path / "claims.csv").write_text("id,claim\nC1,x\n")
    with pytest.raises(ValueError, match="no column measured, paper, verdict; it has id, claim"):
        read_claims(tmp_path / "claims.csv")


def test_the_published_claims_fit_the_table():
    claims = read_claims(ROOT / "tables/claims.csv")
    assert claims_table(claims).count("<tr ") == len(claims) > 60


def test_a_run_without_notebooks_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="make figures"):
        build_book(tmp_path)


def test_the_address_is_the_workflows_or_the_citations(monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "somebody/project")
    assert repository_address() == "https://github.com/somebody/project"
    monkeypatch.delenv("GITHUB_REPOSITORY")
    written = re.search(r"^repository-code: *\"?([^\"\n]+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert repository_address() == (written[1].rstrip("/") if written else "")


def test_what_opens_a_notebook_elsewhere_uses_the_projects_address():
    """No address is known before the project is published; then badges carry it, and nothing else."""
    written = re.search(r"^repository-code: .*github.com/([^\"\n]+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    wanted = {written[1].strip("/ ") if written else "OWNER/REPOSITORY"}
    pattern = r"(?:mybinder\.org/v2/gh|colab\.research\.google\.com/github)/([^/]+/[^/]+)/"
    first = (ROOT / "notebooks/01_prepare_cohort.py").read_text()
    assert set(re.findall(pattern, first)) == wanted
    assert set(re.findall(pattern, (ROOT / "README.md").read_text())) <= wanted


# The site, as files


class Targets(HTMLParser):
    """What a page points to, and the places in it."""

    def __init__(self):
        super().__init__()
        self.fetched, self.linked, self.places = [], [], set()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.places |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        if "src" in attributes:
            self.fetched.append(attributes["src"])
        if "href" in attributes:
            (self.fetched if tag == "link" else self.linked).append(attributes["href"])


@pytest.fixture(scope="module")
def pages(built):
    parsed = {}
    for file in sorted(built[0].rglob("*.html")):
        if "_static" not in file.parts:
            parsed[file] = Targets()
            parsed[file].feed(file.read_text())
    return parsed


def test_sphinx_has_nothing_to_complain_about(built):
    assert "WARNING" not in built[1] and "ERROR" not in built[1], built[1]


def test_every_link_leads_somewhere_and_nothing_is_fetched_from_elsewhere(pages):
    broken, remote = [], []
    for file, page in pages.items():
        for target in page.fetched + page.linked:
            if re.match(r"(?:https?:)?//", target):
                remote += [(file.name, target)] if target in page.fetched else []
                continue
            if re.match(r"(data|mailto|javascript):", target):
                continue
            path, _, place = target.partition("#")
            there = (file.parent / path.partition("?")[0]).resolve() if path else file
            if not there.exists() or (place and there in pages and place not in pages[there].places):
                broken.append((file.name, target))
    assert len(pages) > len(OWN) + 10 and broken == [] and remote == []


def test_styles_fetch_nothing_from_elsewhere(built):
    styles = [file for file in built[0].rglob("*.css")]
    assert len(styles) > 3
    assert [s.name for s in styles if re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", s.read_text())] == []


def test_nothing_private_enters(built):
    texts = [file for file in built[0].rglob("*") if file.suffix in (".html", ".js", ".csv", ".json", ".inv")]
    assert [file for file in texts if SECRET in file.read_text(errors="replace")] == []
    assert "Private." in (built[0] / f"notebooks/{HIDDEN}.html").read_text()


def test_a_displayed_markdown_table_is_a_table(built):
    page = (built[0] / f"notebooks/{FIRST}.html").read_text()
    assert re.search(r"<td>\s*(<p>)?<strong>C1</strong>", page) and "|---|" not in page


def test_pages_say_what_was_not_run_and_what_stopped(built):
    missing = (built[0] / f"notebooks/{OWN[2]}.html").read_text()
    assert "Not run." in missing and "(not run)" in (built[0] / "index.html").read_text()
    assert "stopped with an error" in (built[0] / f"notebooks/{SECOND}.html").read_text()
    assert "no executed copy" not in (built[0] / f"notebooks/{FIRST}.html").read_text()


def test_the_site_stays_small(built):
    assert sum(file.stat().st_size for file in built[0].rglob("*")) < 30e6


# The site, in a browser

CHROMIUM = shutil.which("google-chrome") or shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def browser():
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs Chromium and chromedriver (Debian: apt-get install chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def see(built, browser):
    """Return a function that opens a page at a width and waits until its equations are drawn."""

    def open_page(page, width=1280, wait="return document.readyState === 'complete'", dark=False):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        browser.get(f"file://{built[0]}/{page}")
        wait_for(browser, wait)
        return browser

    return open_page


def wait_for(browser, script, seconds=20):
    end = time.monotonic() + seconds
    while not (answer := browser.execute_script(script)):
        assert time.monotonic() < end, f"not within {seconds} s: {script}"
        time.sleep(0.05)
    return answer


def requests_of(browser):
    """Return every address that was asked for since the last call."""
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def test_every_kind_of_page_at_both_widths(see, built, tmp_path):
    """No broken picture, no page wider than its window, no error of a script, no request but for the site's files."""
    names = ["index", "claims", f"notebooks/{FIRST}", "api/more", "api/index", "tables/voting_rules", "contributing"]
    for width in WIDTHS:
        for name in names:
            page = see(f"{name}.html", width)
            page.execute_script("document.querySelectorAll('img').forEach((i) => { i.loading = 'eager'; })")
            wait_for(page, "return [...document.images].every((image) => image.complete)")
            broken = "return [...document.images].filter((image) => !image.naturalWidth).map((image) => image.src)"
            assert page.execute_script(broken) == [], name
            assert page.execute_script("return document.documentElement.scrollWidth") <= width, (name, width)
            picture = tmp_path / f"{name.replace('/', '_')}_{width}.png"
            assert page.save_screenshot(str(picture)) and picture.stat().st_size > 10_000
    asked = requests_of(page)
    assert len(asked) > 5 * len(names)
    assert [url for url in asked if not url.startswith((f"file://{built[0]}/", "data:", "about:"))] == []
    assert browser_errors(page) == []


def browser_errors(browser):
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_equations_are_drawn(see):
    for page, count in ((f"notebooks/{FIRST}.html", 2), ("api/more.html", 1)):
        shown = see(page, wait="return document.querySelector('mjx-container svg') !== null")
        assert shown.execute_script("return document.querySelectorAll('mjx-container svg').length") == count
        assert (
            shown.execute_script("return document.querySelectorAll('mjx-container [data-mml-node=merror]').length") == 0
        )
    assert "|r| being the radius" in shown.execute_script("return document.body.innerText")


def test_a_figure_is_sharp_and_a_wide_table_scrolls_in_its_box(see):
    page = see(f"notebooks/{FIRST}.html")
    size = "const i = document.querySelector('.cell_output img'); return [i.naturalWidth, i.width, i.height, i.alt]"
    assert page.execute_script(size) == [1200, 600, 300, "A figure"]
    page = see(f"notebooks/{FIRST}.html", 390)
    natural, width, height, _ = page.execute_script(size)
    assert natural == 1200 and width < 390 and abs(width / height - 2) < 0.02
    box = "const b = document.querySelector('.cell_output .text_html'); return [b.scrollWidth, b.clientWidth]"
    inside, shown = page.execute_script(box)
    assert inside > 1000 > 390 > shown > 300


def test_search_finds_a_word(see):
    found = "return [...document.querySelectorAll('#search-results li a')].map((link) => link.getAttribute('href'))"
    page = see("search.html?q=zebrafish", wait=found.replace("return ", "return (") + ").length > 0")
    hits = page.execute_script(found)
    assert any(hit.startswith(f"notebooks/{FIRST}.html") for hit in hits)
    assert browser_errors(page) == []


def test_claims_are_searched_filtered_and_sorted(see):
    page = see("claims.html")
    ids = "return [...document.querySelectorAll('.claims-table tbody tr')].filter((r) => r.offsetParent)" \
          ".map((r) => r.cells[0].textContent)"  # fmt: skip
    assert page.execute_script(ids) == ["C1", "C2", "C10", "C9"]
    head = {h.text.strip(" ↑↓↕"): h for h in page.find_elements("css selector", ".claims-table th button")}
    head["No."].click()
    assert page.execute_script(ids) == ["C1", "C2", "C9", "C10"]
    head["n"].click()
    assert page.execute_script(ids) == ["C9", "C2", "C1", "C10"]
    head["n"].click()
    assert page.execute_script(ids) == ["C10", "C1", "C2", "C9"]
    page.find_element("css selector", ".claims option[value=reproduced]").click()
    assert page.execute_script(ids) == ["C10", "C1"]
    assert page.find_element("css selector", ".claims output").text == "2 of 4 claims"
    page.find_element("css selector", ".claims input").send_keys("PHANTOM cuts")
    assert page.execute_script(ids) == ["C10"]
    assert "<script>less</script>" in page.execute_script("return document.querySelector('.claims-table').textContent")


def test_code_is_hidden_and_stays_so(see):
    page = see(f"notebooks/{OWN[2]}.html")
    cell = "return [...document.querySelectorAll('.bd-article .cell_input')].some((c) => c.offsetParent)"
    assert page.execute_script(cell)
    page.find_element("css selector", ".toggle-code").click()
    assert not page.execute_script(cell)
    page = see(f"notebooks/{FIRST}.html")
    assert not page.execute_script(cell) and page.find_element("css selector", ".toggle-code").text == "Show code"
    page.find_element("css selector", ".toggle-code").click()
    assert page.execute_script(cell)


def luminance(rgb):
    """Relative luminance of a CSS colour, as WCAG 2 has it."""
    parts = [float(part) / 255 for part in re.findall(r"[\d.]+", rgb)[:3]]
    return sum(w * (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4)
               for w, p in zip((0.2126, 0.7152, 0.0722), parts, strict=True))  # fmt: skip


@pytest.mark.parametrize("dark", [False, True])
def test_text_tables_and_verdicts_are_readable_in_both_modes(see, dark):
    colours = """return ['.bd-article p', '.claims-table td', '.verdict', '.claims label', '.cell_output pre',
      'table.dataframe td', '.toggle-code'].flatMap((s) => [...document.querySelectorAll(s)].slice(0, 4))
      .map((e) => { let b = e, c; do { c = getComputedStyle(b).backgroundColor; b = b.parentElement; }
        while (b && /, 0\\)$/.test(c)); return [e.className || e.tagName, getComputedStyle(e).color, c]; })"""
    for name in ("claims.html", f"notebooks/{FIRST}.html"):
        page = see(name, dark=dark)
        assert page.execute_script("return document.documentElement.dataset.theme") == ("dark" if dark else "light")
        found = page.execute_script(colours)
        assert len(found) > 5
        for what, text, behind in found:
            bright, dim = sorted((luminance(text), luminance(behind)), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, (name, what, text, behind)

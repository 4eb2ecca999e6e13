import re

import pytest

from lib.files import ROOT

PAGES = ("README.md", "CONTRIBUTING.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_is_there(page):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text())
    assert page != "README.md" or len(targets) > 15
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_notebook_is_named_and_every_make_target_exists():
    readme = (ROOT / "README.md").read_text()
    notebooks = [path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")]
    assert [name for name in notebooks if f"notebooks/{name}" not in readme] == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", readme, re.MULTILINE)) <= targets

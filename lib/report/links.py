"""Links of the repository's Markdown, turned into links of the book."""

import os
import re
from pathlib import Path, PurePosixPath

from lib.files import ROOT

FENCED = re.compile(r"(^(?P<fence>```+|~~~+|:::+).*?^(?P=fence)[ \t]*$)", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<target>[^()\s]+)(?:\s+\"[^\"]*\")?\)")
LINK = re.compile(r"(?<!!)\[(?P<text>(?:!\[[^\]]*\]\([^()]*\)|[^\[\]])+)\]\((?P<target>[^()\s]+)(?:\s+\"[^\"]*\")?\)")
ATTRIBUTE = re.compile(r"(?P<name>\b(?:src|srcset|href))=\"(?P<target>[^\"]+)\"")
FETCHED_TAG = re.compile(r"<(?:img|source)\b[^>]*\bsrc(?:set)?=\"(?:https?:)?//[^>]*>")
ELSEWHERE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//|#)", re.IGNORECASE)


class Links:
    """Rewrite the links of pages, and remember what they need.

    Parameters
    ----------
    pages : dict of str to str
        Path in the repository -> source of the page in the book, both relative, such as "README.md" -> "index.md".
        Other folders stay as they are, so that a relative link to a picture keeps its path.
    modules : collection of str
        Names of the modules that the book describes, such as "lib.voting".
    root : Path
        The repository.

    Attributes
    ----------
    pictures, files, tables : set of str
        Paths in the repository that pages show, link to, or link to as a table (.csv).
    missing : list of str
        Targets that do not exist; their links are left as plain text.
    """

    def __init__(self, pages: dict[str, str], modules: set[str] = frozenset(), root: Path = ROOT):
        self.pages, self.modules, self.root = pages, modules, root
        self.pictures, self.files, self.tables = set(), set(), set()
        self.missing: list[str] = []

    def rewrite(self, markdown: str, page: str) -> str:
        """Return the Markdown of `page` (its source in the book) with links that work in the book.

        Fenced code is left alone. A picture from elsewhere (a badge) becomes its text: a page fetches nothing.
        """
        folder = str(PurePosixPath(page).parent)
        parts, start = [], 0
        for fence in FENCED.finditer(markdown):
            parts += [self._rewrite_text(markdown[start : fence.start()], folder), fence.group()]
            start = fence.end()
        return "".join(parts) + self._rewrite_text(markdown[start:], folder)

    def _rewrite_text(self, text: str, folder: str) -> str:
        text = FETCHED_TAG.sub("", text)
        text = ATTRIBUTE.sub(lambda found: self._attribute(found, folder), text)
        text = PICTURE.sub(lambda found: self._picture(found, folder), text)
        return LINK.sub(lambda found: self._link(found, folder), text)

    def _place(self, target: str, folder: str) -> tuple[str, str]:
        """Return a target's path in the repository and its fragment with the #."""
        path, mark, fragment = target.partition("#")
        return os.path.normpath(f"{folder}/{path}"), mark + fragment

    def _is_file(self, path: str) -> bool:
        inside = not path.startswith("..") and (self.root / path).is_file()
        if not inside and not (self.root / path).is_dir():
            self.missing.append(path)
        return inside

    def _picture(self, found: re.Match, folder: str) -> str:
        if ELSEWHERE.match(found["target"]):
            return found["text"] if not found["target"].startswith("data:") else found.group()
        path, _ = self._place(found["target"], folder)
        if not self._is_file(path):
            return found["text"]
        self.pictures.add(path)
        return found.group()

    def _link(self, found: re.Match, folder: str) -> str:
        if ELSEWHERE.match(found["target"]):
            return found.group()
        text, (path, fragment) = found["text"], self._place(found["target"], folder)
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if path in self.pages:
            return f"[{text}]({os.path.relpath(self.pages[path], folder)}{fragment})"
        if module in self.modules:
            return f"{{py:mod}}`{text.strip('`')} <{module}>`"
        if not self._is_file(path):
            return text
        if path.endswith(".csv"):
            twin = self.pages.get(path.removesuffix(".csv") + ".md")  # the same table, written to be read
            if twin:
                return f"[{text}]({os.path.relpath(twin, folder)})"
            self.tables.add(path)
            return f"[{text}]({os.path.relpath(path, folder).removesuffix('.csv')}.md)"
        self.files.add(path)
        return f'<a href="{os.path.relpath(path, folder)}">{text}</a>'

    def _attribute(self, found: re.Match, folder: str) -> str:
        if ELSEWHERE.match(found["target"]):
            return found.group()
        path, fragment = self._place(found["target"], folder)
        if path in self.pages:
            page = PurePosixPath(self.pages[path]).with_suffix(".html")
            return f'{found["name"]}="{os.path.relpath(page, folder)}{fragment}"'
        if self._is_file(path):
            self.files.add(path)
        return found.group()

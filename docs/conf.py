"""Settings of the book. `lib.report` copies this folder beside the run's pages and calls Sphinx there.

Nothing is fetched, neither when the book is built nor when it is opened: equations are drawn by a MathJax that a
package ships, in the variant that needs no font files; icons and fonts are the theme's own or the system's.
"""

import json
from importlib.metadata import files
from pathlib import Path

HERE = Path(__file__).parent
book = json.loads((HERE / "book.json").read_text())  # written by lib.report

project = "What does deep learning see?"
author = "the authors of this repository"
html_title = project
version = release = book["version"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.viewcode", "numpydoc"]
exclude_patterns = ["**.ipynb_checkpoints"]
root_doc = "index"

# Notebooks: shown as they were executed, never executed here.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}  # no widget library from elsewhere
nb_render_markdown_format = "gfm"  # tables in a displayed Markdown are tables
nb_render_image_options = {"align": "center"}
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

# The modules of lib, from their docstrings.
autodoc_member_order = "bysource"
autodoc_default_options = {
    "special-members": "__call__",  # how an Attributor is used
    "exclude-members": "set",  # which Matplotlib writes for every artist, in its own markup
}
autodoc_typehints = "none"  # numpydoc's type line says more: shape, unit, range
add_module_names = False
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

# Equations: one file, glyphs as SVG paths.
MATHJAX = "mathjax/tex-svg.js"
mathjax_path = MATHJAX
mathjax3_config = {"options": {"enableMenu": False}}  # its menu would load more
shipped = [file for file in files("sphinx-mathjax-offline") or [] if str(file).endswith(f"static/{MATHJAX}")]
(HERE / "_static/mathjax").mkdir(exist_ok=True)
(HERE / "_static" / MATHJAX).write_bytes(shipped[0].read_binary())

html_theme = "sphinx_book_theme"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_static_path = ["_static"]
html_extra_path = ["_files"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": project},
    "navbar_persistent": [],
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_repository_button": bool(book["repository"]),
    "repository_url": book["repository"],
    "repository_branch": book["branch"],
    "footer_content_items": ["extra-footer"],
    "extra_footer": book["footer"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
if book["repository"].startswith("https://github.com/"):  # buttons that open a notebook there
    html_theme_options["launch_buttons"] = {
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
        "notebook_interface": "jupyterlab",
    }


def escape_bars(app, what, name, obj, options, lines):
    """Let |map| in a docstring be an absolute value: reStructuredText takes it for a substitution, lib has none."""
    indent = None  # of a block of mathematics
    for number, line in enumerate(lines):
        depth = len(line) - len(line.lstrip())
        if line.strip() and indent is not None and depth <= indent:
            indent = None
        if line.strip().startswith((".. math::", ".. |")) or line.rstrip().endswith("::"):
            indent = depth
        elif indent is None:
            parts = line.split("`")  # odd ones are code or a role
            lines[number] = "`".join(p if n % 2 else p.replace("|", "\\|") for n, p in enumerate(parts))


def without_aliases(app, what, name, obj, skip, options):
    """Leave out what Python itself says of a named tuple's fields; their own docstrings stay."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app):
    """Register the settings that are functions."""
    app.connect("autodoc-skip-member", without_aliases)
    app.connect("autodoc-process-docstring", escape_bars, priority=900)  # after numpydoc

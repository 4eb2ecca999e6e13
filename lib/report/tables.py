"""Tables of the book: the claims with filter and sort, and CSV files as pages."""

from html import escape
from pathlib import Path

import pandas as pd

CLAIMS = {  # column of claims.csv -> its heading, where a claim is printed
    "id": "No.",
    "claim": "The paper's claim",
    "paper": "The paper",
    "measured": "This run",
    "n": "n",
    "verdict": "Verdict",
}


def read_claims(file: Path) -> pd.DataFrame:
    """Read a claims.csv: text as text, and `n` as printed, slices (patients).

    Raises
    ------
    ValueError
        If columns are missing, naming them.
    """
    claims = pd.read_csv(file, keep_default_na=False, dtype=str)
    missing = {"id", "claim", "paper", "measured", "verdict"} - set(claims)
    if missing:
        raise ValueError(f"{file} has no column {', '.join(sorted(missing))}; it has {', '.join(claims)}.")
    if {"n_slices", "n_patients"} <= set(claims):
        slices, patients = claims["n_slices"], claims["n_patients"]
        claims["n"] = (slices + " (" + patients + ")").where(~slices.isin(["", "0"]), "")
    return claims


def claims_table(claims: pd.DataFrame) -> str:
    """Return the claims as an HTML table with its controls, which `claims.js` fills with life.

    Without JavaScript it is a plain table. Every text is escaped.

    Parameters
    ----------
    claims : DataFrame
        As :func:`read_claims` returns it.
    """
    columns = {name: title for name, title in CLAIMS.items() if name in claims}
    verdicts = list(dict.fromkeys(claims["verdict"]))
    counts = claims["verdict"].value_counts()
    options = "".join(f'<option value="{escape(v)}">{escape(v)} ({counts[v]})</option>' for v in verdicts)
    head = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{escape(t)}</button></th>' for t in columns.values()
    )
    rows = []
    for row in claims.to_dict("records"):
        cells = "".join(
            f'<td class="claim-{name}" data-label="{escape(title)}">{_cell(row, name)}</td>'
            for name, title in columns.items()
        )
        rows.append(f'<tr data-verdict="{escape(row["verdict"])}">{cells}</tr>')
    return (
        '<div class="claims" hidden><label>Search <input type="search" placeholder="Grad-CAM, C53, Table 2"></label>'
        f'<label>Verdict <select><option value="">all ({len(claims)})</option>{options}</select></label>'
        '<output aria-live="polite"></output></div>\n'
        f'<div class="wide"><table class="claims-table"><thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>\n"
    )


def _cell(row: dict[str, str], name: str) -> str:
    text = escape(row[name])
    if name == "claim" and row.get("where"):
        text += f' <span class="where">{escape(row["where"])}</span>'
    if name == "verdict":
        text = f'<span class="verdict" data-verdict="{text}">{text}</span>'
        if row.get("by_construction"):
            text += f' <span class="by">{escape(row["by_construction"])}</span>'
    return text


def csv_page(file: Path, title: str) -> str:
    """Return a CSV file as a page in Markdown, with a link to the file itself."""
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    html = table.to_html(index=False, border=0, justify="unset", classes="dataframe")
    download = f'<a href="{file.name}">{file.name}</a>, {len(table)} rows'
    return (
        f"---\norphan: true\n---\n\n# {title}\n\n{download}\n\n" + f'<div class="wide">\n{_one_block(html)}\n</div>\n'
    )


def _one_block(html: str) -> str:
    """Return HTML without blank lines, at which Markdown would end the block."""
    return "\n".join(line for line in html.splitlines() if line.strip())

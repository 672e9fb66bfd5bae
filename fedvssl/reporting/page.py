"""Parts of a self-contained HTML page. Every function escapes its text and returns HTML."""

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from fedvssl.reporting.style import STYLE

# The page can load and run nothing, whatever a file of the run holds.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(
    title: str, summary: str, tiles: Sequence[tuple[str, str]], sections: Sequence[tuple[str, str]], *, end: str
) -> str:
    """The whole document: `tiles` are (name, figure), `sections` (title, HTML), `end` is the last line."""
    links = "".join(f'<a href="#{_id(name)}">{escape(name)}</a>' for name, _ in sections)
    figures = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in tiles)
    body = "".join(f'<section id="{_id(name)}"><h2>{escape(name)}</h2>{html}</section>\n' for name, html in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'  # or a browser asks the server for one
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n"
        f"<body>\n<header><h1>{escape(title)}</h1><p>{escape(summary)}</p><dl>{figures}</dl></header>\n"
        f"<nav>{links}</nav>\n<main>\n{body}</main>\n<footer>{escape(end)}</footer>\n</body>\n</html>\n"
    )


def paragraph(text: str) -> str:
    """Paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def missing(sentence: str, command: str = "") -> str:
    """Reason for a missing part, and the command that would write it."""
    return f'<div class="missing"><p>{escape(sentence)}</p>{listing(command) if command else ""}</div>'


def listing(text: str) -> str:
    """Preformatted text in a box that scrolls."""
    return f'<pre tabindex="0">{escape(text)}</pre>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "", numbers: bool = True) -> str:
    """Table; the first cell of a row names it, the others are aligned as numbers, or else as text."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    kind = "numbers" if numbers else "words"
    return (
        (f'<p class="caption">{escape(caption)}</p>' if caption else "")
        + f'<div class="scroll" tabindex="0"><table class="{kind}">'
        + f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and their values, side by side."""
    return (
        "<dl>"
        + "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
        + "</dl>"
    )


def figure(title: str, html: str) -> str:
    """A chart or picture under its title."""
    return f"<figure><figcaption>{escape(title)}</figcaption>{html}</figure>"


def charts(*titled: tuple[str, str]) -> str:
    """Figures (title, chart or picture), side by side on a wide page."""
    return f'<div class="charts">{"".join(figure(title, html) for title, html in titled)}</div>'


def picture(png: Path, title: str) -> str:
    """A PNG inside the page, in a box that scrolls on a narrow page.

    Raises:
        ValueError: if the file is no PNG.
    """
    content = png.read_bytes()
    if not content.startswith(b"\x89PNG"):
        raise ValueError(f"{png} is no PNG: remove it, or run the command that draws it again.")
    data = base64.b64encode(content).decode()
    return f'<div class="scroll" tabindex="0"><img src="data:image/png;base64,{data}" alt="{escape(title)}"></div>'


def details(summary: str, html: str) -> str:
    """Section that is folded until it is opened."""
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"


def _id(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())

"""HTML in small pieces. What comes from outside goes through `text`, and nothing else makes it markup."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any


class Markup(str):
    """Text that is HTML already. Everything else is escaped where it is put in."""

    __slots__ = ()


def text(content: object) -> Markup:
    """Any text as it stands. Characters that no page may hold are left out."""
    if isinstance(content, Markup):
        return content
    plain = "".join(c for c in str(content) if c.isprintable() or c in "\n\t")
    return Markup(html.escape(plain, quote=True))


def tag(name: str, *inside: object, **attributes: object) -> Markup:
    """`tag("p", "a < b", class_="note")`: an attribute that is True stands alone, one that is None is left out."""
    written = ""
    for key, value in attributes.items():
        if value is not None and value is not False:
            shown = key.rstrip("_").replace("_", "-")
            written += f" {shown}" if value is True else f' {shown}="{text(value)}"'
    return Markup(f"<{name}{written}>{joined(inside)}</{name}>")


def joined(pieces: Iterable[object]) -> Markup:
    return Markup("".join(text(piece) for piece in pieces if piece is not None))


def image(source: str, alt: str, **attributes: object) -> Markup:
    written = "".join(f' {key}="{text(value)}"' for key, value in attributes.items())
    return Markup(f'<img src="{text(source)}" alt="{text(alt)}"{written}>')


def table(headings: Sequence[object], rows: Iterable[Sequence[object]], caption: str, marked: int = -1) -> Markup:
    """A table that scrolls by itself where it is wide; `marked` is the place of a row that stands out."""
    head = tag("tr", *(tag("th", heading, scope="col") for heading in headings))
    body = [
        tag(
            "tr",
            *(cell(content, at == 0) for at, content in enumerate(row)),
            class_="best" if n == marked else None,
        )
        for n, row in enumerate(rows)
    ]
    inside = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", inside, class_="wide", tabindex="0", role="region", aria_label=caption)


def cell(content: object, is_first: bool) -> Markup:
    return tag("th", content, scope="row") if is_first else tag("td", content)


def pairs(rows: Iterable[tuple[object, object]]) -> Markup:
    """Names with what they are."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", content)) for name, content in rows))


def listing(items: Iterable[object], kind: str = "ul") -> Markup:
    return tag(kind, *(tag("li", item) for item in items))


def code(lines: str) -> Markup:
    return tag("pre", tag("code", lines), tabindex="0")


def section(name: str, title: str, *inside: object) -> Markup:
    return tag("section", tag("h2", title, id=f"{name}-title"), *inside, id=name, aria_labelledby=f"{name}-title")


def data(name: str, content: Any) -> Markup:
    """JSON for the page's script: nothing in it ends the element or begins another."""
    plain = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        plain = plain.replace(char, f"\\u{ord(char):04x}")
    return Markup(f'<script type="application/json" id="{text(name)}">{plain}</script>')

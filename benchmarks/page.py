"""The tables as text for the terminal, and as the page docs/benchmarks.md."""

from __future__ import annotations

from benchmarks.measure import Section

INTRODUCTION = """\
# Benchmarks

Written by `.venv/bin/python -m benchmarks --markdown docs/benchmarks.md`, which takes an hour and a half on an
otherwise idle machine. Both sides of a row are measured alternately in one run. A figure is the median, with the
range in parentheses. `--only NAME` measures one part, `--data FOLDER` uses your own photographs."""
TOY = "\n\n**Measured with `--quick`: toy sizes, which show that it works, not how fast it is.**"


def as_text(section: Section) -> str:
    """Format a table with columns of equal width, for the terminal."""
    table = section.table()
    widths = [max(len(row[at]) for row in table) for at in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    return "\n".join(["", section.title, "-" * len(section.title), *(line.rstrip() for line in lines)])


def as_page(sections: list[Section], missing: list[str], host: dict[str, str], quick: bool) -> str:
    """Return the whole page; `missing` names the parts that this run did not measure."""
    machine = "\n".join(f"- {name}: {value}" for name, value in host.items())
    parts = [INTRODUCTION + (TOY if quick else ""), f"## The machine\n\n{machine}", *map(as_part, sections)]
    if missing:
        parts.append(f"## Not measured in this run\n\n{', '.join(missing)}")
    return "\n\n".join(parts) + "\n"


def as_part(section: Section) -> str:
    head, *rows = section.table()
    lines = [bar(head), bar(["---"] * len(head)), *map(bar, rows)]
    reading = "\n".join(f"- {line}" for line in section.reading)
    return f"## {section.title}\n\n" + "\n".join(lines) + f"\n\n{reading}"


def bar(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"

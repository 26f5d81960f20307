"""The command `tuner table`: published numbers compared with our own."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.common import echo_json, echo_list, open_engine, print_table
from tuner.cli.options import TABLE, json_option, storage_options, study_option
from tuner.wording import count_of, pluralize, start_hint

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from tuner.report.table_comparison import TableComparison


@click.command()
@click.argument("name", type=TABLE, required=False)
@storage_options
@study_option("the table's at full size")
@click.option("--markdown", "as_markdown", is_flag=True, help="As a Markdown table.")
@json_option
def table(
    name: str | None, home: str, storage: str | None, study: str | None, as_markdown: bool, as_json: bool
) -> None:
    """Compare a published table with our own numbers; without a name, list the tables.

    Our number is the metric at a trial's best epoch: mean, standard deviation and number of the seeds.

    \b
    Examples:
      tuner run --table weizmann_unet
      tuner table weizmann_unet --markdown
    """
    from tuner.errors import StudyError
    from tuner.report.table_comparison import compare_table, to_json, to_markdown
    from tuner.space.published import load_table

    if as_markdown and as_json:
        raise StudyError("give either --markdown or --json, not both.")
    engine = None
    with suppress(StudyError):  # without a database, the published numbers are shown
        engine = open_engine(storage, home)
    if name is None:
        return list_tables(engine, as_json)
    if engine is None and study:
        raise StudyError(f"no study '{study}': there is no study yet. {start_hint(name)}")
    found = compare_table(engine, load_table(name), study)
    if as_json:
        return echo_json(to_json(found))
    if as_markdown:
        return click.echo(to_markdown(found))
    print_comparison(found)


def list_tables(engine: Engine | None, as_json: bool) -> None:
    """List all tables; those that cannot be read are marked."""
    from tuner.space.published import known_tables

    rows = [describe_table(name, path, engine) for name, path in known_tables().items()]
    if as_json:
        return echo_json(rows)
    echo_list([(row["name"], row["about"], format_progress(row)) for row in rows])
    if not rows:
        click.echo("no tables yet: put a .toml file into ./studies")


def describe_table(name: str, path: Path, engine: Engine | None) -> dict[str, Any]:
    """Return a row of the list; of a table that cannot be read, with the error."""
    from tuner.errors import LONGEST_LINE, TableError, cut
    from tuner.report.table_comparison import compare_table
    from tuner.space.published import load_table

    try:
        found = compare_table(engine, load_table(str(path)), None)
    except TableError as error:
        about = cut(f"broken: {' '.join(str(error).split())}", LONGEST_LINE)
        return {"name": name, "about": about, "path": str(path.absolute()), "error": str(error)}
    return {
        "name": found.table.name,
        "about": found.table.about,
        "space": found.table.space_name,
        "data": found.table.data,
        "rows": len(found.lines),
        "done": sum(line.state == "done" for line in found.lines),
        "study": found.study.name if found.study else None,
        "path": str(path.absolute()),
    }


def format_progress(row: dict[str, Any]) -> str:
    if "error" in row:
        return ""
    progress = count_of(row["done"], row["rows"], "row", "done") if row["study"] else pluralize(row["rows"], "row")
    return f"{progress}, {row['space']} on {row['data']}"


def print_comparison(found: TableComparison) -> None:
    from tuner.report.table_comparison import comparison_title, text_columns

    headings, cells = zip(*text_columns(found), strict=True)
    sides = ["left" if any(map(is_text, column)) else "right" for column in cells]
    rows = zip(*cells, strict=True)
    print_table(
        list(zip(headings, sides, strict=True)), rows, title=comparison_title(found), caption=found.table.note
    )


def is_text(cell: str) -> bool:
    return bool(cell) and not cell[0].isdigit() and cell[0] not in "-+"

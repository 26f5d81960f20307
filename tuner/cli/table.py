"""The command `tuner table`: published numbers compared with our own."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.common import echo_json, echo_list, open_engine, print_table
from tuner.cli.options import TABLE, json_option, storage_options, study_option

if TYPE_CHECKING:
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
        raise StudyError(f"no study '{study}': there is no study yet. Start one with: tuner run --table {name}")
    found = compare_table(engine, load_table(name), study)
    if as_json:
        return echo_json(to_json(found))
    if as_markdown:
        return click.echo(to_markdown(found))
    print_comparison(found)


def list_tables(engine: Engine | None, as_json: bool) -> None:
    from tuner.errors import TableError
    from tuner.report.table_comparison import compare_table
    from tuner.space.published import known_tables, load_table

    found = []
    for path in known_tables().values():
        try:
            found.append(compare_table(engine, load_table(str(path)), None))
        except TableError as error:  # the others are still listed
            click.echo(f"tuner: {error}", err=True)
    rows: list[dict[str, Any]] = [
        {
            "name": one.table.name,
            "about": one.table.about,
            "space": one.table.space_name,
            "data": one.table.data,
            "rows": len(one.lines),
            "done": sum(line.state == "done" for line in one.lines),
            "study": one.study.name if one.study else None,
            "path": str(one.table.path),
        }
        for one in found
    ]
    if as_json:
        return echo_json(rows)
    for row in rows:
        row["progress"] = f"{row['done']} of {row['rows']} rows done" if row["study"] else f"{row['rows']} rows"
    echo_list([(row["name"], row["about"], "{progress}, {space} on {data}".format_map(row)) for row in rows])
    if not rows:
        click.echo("no tables yet: put a .toml file into ./studies")


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

"""Lines of a Markdown table."""


def table_head(*names: object) -> str:
    """The names of the columns, and the rule below the names."""
    return f"{table_row(*names)}\n|{'---|' * len(names)}"


def table_row(*cells: object) -> str:
    """One row of the table."""
    return f"| {' | '.join(map(str, cells))} |"

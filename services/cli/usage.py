"""What every part of the command shares: the error of wrong usage, and text made safe for a terminal."""


class UsageError(Exception):
    """The command was called wrongly; the process ends with exit code 2."""


def printable(text: object) -> str:
    """`text` for a terminal or a table: control characters and bytes that are no text are shown as escapes."""
    escaped = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in escaped)

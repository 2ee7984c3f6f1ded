"""The one kind of error that a user can correct."""


class UserError(ValueError):
    """A fault outside the code, with one line that names it and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """Escapes line breaks, control characters and lone surrogates in a text.

    Messages contain file names and parts of damaged files, which may hold any of these.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )

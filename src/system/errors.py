"""The one kind of error that a user can mend."""


class UserError(ValueError):
    """A fault outside the code: the message says in one line what is wrong and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """The text with line breaks, control characters and lone surrogates written as escapes.

    File names and the content of damaged files reach messages, and may hold any of them."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )

"""The one exception whose text is meant for the user."""


class UserError(Exception):
    """Bad input, in one line: what was wrong, what is allowed, which override mends it."""

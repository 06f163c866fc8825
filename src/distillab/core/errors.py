"""The one exception whose text is meant for the person at the keyboard."""


class UserError(Exception):
    """Bad input, in one line: what was wrong, what is allowed, which override mends it."""

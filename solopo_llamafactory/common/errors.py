"""What ends a command of `solopo`, and what leaves one question out."""


class SolopoError(Exception):
    """Ends the command: one sentence for the user that says what is wrong, where, and what to write instead."""


class Skip(Exception):
    """Leaves one question out; its text is the reason under which it is counted."""

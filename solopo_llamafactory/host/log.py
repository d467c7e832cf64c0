"""The package's logger. Alone, because `hooks` needs it before the host is complete."""

from llamafactory.extras.logging import get_logger


# Only loggers below "llamafactory" have the host's handlers (console, web UI).
logger = get_logger("llamafactory.solopo")

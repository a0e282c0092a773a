"""What a person can be told: one tree of errors, each a sentence and what to do about it."""

import errno
from collections.abc import Mapping


class StudioError(Exception):
    """A failure that is shown in words; faces map `code` to a toast, an exit code or an HTTP status, and show each of `fields` at its control."""

    code = "error"

    def __init__(self, message: str, hint: str = "", code: str = "", fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or type(self).code
        self.fields = dict(fields or {})
        """What is wrong with single values of a request, by the name of their field."""

    def __str__(self) -> str:
        """The message and the hint as one line."""
        return f"{self.message} {self.hint}".strip()


class InputError(StudioError):
    """A value that cannot be used as it was given."""

    code = "invalid"


class NotFound(StudioError):
    """Something that was named does not exist."""

    code = "not_found"


class Conflict(StudioError):
    """The act collides with what exists or runs already."""

    code = "conflict"


class Unreadable(StudioError):
    """A file that is not what its name says, is damaged, or is unsafe to open."""

    code = "unreadable"


class OutOfSpace(StudioError):
    """The disk is full; nothing that was saved before is lost."""

    code = "out_of_space"


class Unavailable(StudioError):
    """Something that is usually there can't be used at the moment; trying again later may work."""

    code = "unavailable"

    def __init__(self, message: str, hint: str = "", reason: str = "") -> None:
        super().__init__(message, hint)
        self.reason = reason or message


class Diverged(StudioError):
    """Training produced numbers that are not finite; the last good state is kept."""

    code = "diverged"


EXIT_CODES = {"invalid": 2, "not_found": 2, "conflict": 2, "unreadable": 2}
"""Exit code of the command line by error code; anything else is 1."""
DISK_ERRORS: dict[int, tuple[str, str]] = {
    **dict.fromkeys(
        (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ELOOP), ("invalid", "A name or path is longer than the disk allows, or cannot be a file's name. Use a shorter, plainer one.")
    ),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR), ("not_found", "What was asked for is not there any more.")),
    **dict.fromkeys((errno.EACCES, errno.EPERM), ("conflict", "The studio may not read or write there (operation not permitted).")),
    errno.EROFS: ("conflict", "The disk is read-only: nothing can be written there."),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), ("out_of_space", "The disk is full. Free some space and try again.")),
}
"""Error code and message of file system failures by errno. No message contains a path."""


def disk_error(error: OSError) -> StudioError | None:
    """The StudioError for a file system failure, by its errno; None for an errno without a message."""
    code, sentence = DISK_ERRORS.get(error.errno or 0, ("", ""))
    return StudioError(sentence, code=code) if sentence else None

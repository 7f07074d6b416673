"""Conditions that a user can mend. Each message says what was got, what was expected and what to do next."""


class MfcdError(Exception):
    """Base of every expected failure; a command prints its message as one line and exits with status 2."""


class UsageError(MfcdError):
    """The command, a recipe or a list asks for something that cannot be."""


class VideoError(MfcdError):
    """One video cannot be used; the others can. problem: a key of the closed set of what can be wrong with one."""

    problem = "undecodable"

    def __init__(self, message: str, problem: str | None = None) -> None:
        super().__init__(message)
        if problem is not None:
            self.problem = problem


class GopError(VideoError):
    """A file breaks the grid of one I-frame followed by gop_size - 1 P-frames."""

    problem = "off-grid"


class DeadlineError(MfcdError):
    """A task took longer than it may; more time could mend it."""


class KilledError(MfcdError):
    """A process of a task was killed from outside: this says nothing about the task itself."""


class OutputError(MfcdError):
    """Results cannot be written (full disk, read-only or vanished folder): no task can come to its end."""


class SourceError(MfcdError):
    """What is to be read has vanished as a whole, as a lost mount does: no task can come to its end."""


class VersionsError(MfcdError):
    """A process has other library versions than the run that it would join: its shards would have other bytes."""


class StoreError(MfcdError):
    """A store is missing, of another version, or inconsistent."""


class ChecksumError(StoreError):
    """Stored bytes are not the bytes that were written."""

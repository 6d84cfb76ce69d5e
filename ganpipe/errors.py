"""The two ways in which ganpipe stops on purpose."""


class GanpipeError(Exception):
    """Something the user can mend. The message is one sentence: what, found, expected, what to do."""


class Interrupted(GanpipeError):
    """SIGINT or SIGTERM arrived; the step was finished and the checkpoint written."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """The shell's convention: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signum

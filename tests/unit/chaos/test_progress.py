import io

from tests.chaos.progress import Progress
from tests.chaos.settings import SHORT


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_one_line_that_changes() -> None:
    stream = Terminal()
    progress = Progress(stream)
    progress.report(1, 1, 0, SHORT)
    progress.report(2, 2, 1, SHORT)
    assert stream.getvalue().count("\n") == 0
    assert stream.getvalue().count("\r") == 2


def test_elsewhere_there_is_a_line_every_few_seconds() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    for number in range(50):
        progress.report(number, 1, 0, SHORT)
    assert stream.getvalue().count("\n") == 1


def test_a_lasting_line_is_printed_whatever_was_printed_before() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress.settling(1, 2)
    progress.say("seed 7")
    assert "settling: 1 runs under way, 2 things to be cleaned up\n" in stream.getvalue()
    assert stream.getvalue().endswith("seed 7\n")

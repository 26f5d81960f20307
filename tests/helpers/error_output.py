"""How bad input is answered, whatever it was."""

from __future__ import annotations

from subprocess import CompletedProcess


def one_message(done: CompletedProcess[str], *said: str) -> None:
    """Exit code 2 and one message of ours with these words in it; no traceback, no warning, no result."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and done.stderr.startswith("tuner: ") and done.stderr.count("tuner: ") == 1
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    for words in said:
        assert words in done.stderr

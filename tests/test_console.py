import io
import re
import sys

import pytest

from braintune import console
from braintune.console import progress


class Terminal(io.StringIO):
    """What pretends to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_logs_get_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console._LogLines, "interval", 0.0)
    with progress("Fitting", 4) as bar:
        bar.skip(2)
        bar.advance(note="loss 0.5")
        bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Fitting: 3/4 loss 0.5, 0:00:0")
    assert lines[0].endswith("left")
    assert re.fullmatch(r"Fitting: 4/4 loss 0.5, took 0:00:0\d", lines[-1])


def test_a_terminal_gets_a_bar_that_fits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    with progress("Fitting", 300) as bar:
        for _ in range(300):
            bar.advance(note="fold 1 epoch 2 loss 0.512 and a great deal that is longer")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    lines = [line for line in re.split(r"[\r\n]", shown) if line.strip()]
    assert all(len(line) <= 60 for line in lines)
    assert "300/300" in lines[-1]
    assert lines[-1].rstrip().endswith("taken")

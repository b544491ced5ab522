"""What asks a training to stop."""

from braintune.fitting.interrupt import StopRequest


class StoppingBar:
    """Shows nothing, and asks to stop after some steps."""

    def __init__(self, stop: StopRequest, after: int) -> None:
        self._stop, self._left = stop, after

    def advance(self, steps: int = 1, note: str = "") -> None:
        del note
        self._left -= steps
        self._stop.wanted = self._left <= 0

    def skip(self, steps: int) -> None:
        del steps

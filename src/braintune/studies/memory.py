"""How much memory a fit takes at its peak, in a process that does many."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"


class PeakMemory:
    """Watches from its making on: the GPU's memory if there is one, else the process's own."""

    def __init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with suppress(OSError):  # elsewhere than on Linux the peak is that of all fits so far
            _CLEAR.write_text(_RESET_PEAK)

    def megabytes(self) -> float:
        """The peak since then."""
        if torch.cuda.is_available():
            return round(torch.cuda.max_memory_allocated() / 1e6, 1)
        with suppress(OSError):
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return round(int(line.split()[1]) * 1024 / 1e6, 1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)

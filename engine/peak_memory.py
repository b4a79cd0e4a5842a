"""Peak memory of one run, in a process that may have had other runs before."""

import re
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")


class PeakMemory:
    """A measurement that begins when it is constructed: of tensors on a GPU, else of the process's resident memory."""

    def __init__(self, device: torch.device) -> None:
        self.device, self._known = device, True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            (_PROCESS / "clear_refs").write_text("5")  # on Linux, this resets VmHWM
        except OSError:
            self._known = False

    def bytes(self) -> int | None:
        """Return the peak so far in bytes, or None where the system does not measure it."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        peak = re.search(r"VmHWM:\s+(\d+) kB", (_PROCESS / "status").read_text()) if self._known else None
        return int(peak[1]) * 1024 if peak else None

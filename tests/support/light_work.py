"""What workers do where only their life and death matter; imports nothing heavy."""

import os
import sys
import time


def dies_or_sleeps(folder, rank):
    """Rank 0 dies; the others note who they are, and wait to be stopped."""
    if rank == 0:
        raise RuntimeError("out of memory")
    threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else 0
    (folder / "new").write_text(f"{os.getpid()} {threads}")
    (folder / "new").rename(folder / f"{rank}")
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        (folder / f"stopped-{rank}").touch()
        raise

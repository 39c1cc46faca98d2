"""Nobody waits for the disk: what a killed process has written stays in the kernel's hands."""

import os


def unsynced() -> None:
    """From now on this process leaves the disk to itself."""
    os.fsync = lambda file: None

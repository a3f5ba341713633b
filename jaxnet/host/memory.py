"""The memory of this machine."""

import os


def host_memory() -> int:
    """Return the bytes of memory of this machine; 8 GiB if the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # no such call on Windows
        return 8 * 2**30

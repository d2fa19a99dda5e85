"""Two directories exchanged in one step, where the system can do that."""

import ctypes
import errno
import os
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_RENAME_SWAP = 2
_NOT_HERE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})


def exchange(left: Path, right: Path) -> bool:
    """Exchange two paths: a program that opens one finds the old or the new directory, never nothing.

    False, and nothing done, where the file system or the C library cannot (network file systems, musl).
    Linux: `renameat2` with RENAME_EXCHANGE (rename(2), Linux man-pages); macOS: `renamex_np` with RENAME_SWAP
    (rename(2), macOS). Raises OSError for any other reason.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(left), os.fsencode(right)
    if hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    elif hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(*names, _RENAME_SWAP)
    else:
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in _NOT_HERE:
        return False
    raise OSError(code, os.strerror(code), str(left))

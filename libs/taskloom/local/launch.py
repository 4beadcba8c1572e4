"""Runs one command so that it cannot outlive whoever started it: ``launch.py PARENT_PID SIGNAL UID GID COMMAND...``.

A program of its own (plain stdlib, started with ``python -I -S``), because what it does must happen in the child after
the change of user and before the command, and Python code between fork and exec can deadlock.

UID -1 keeps the user. Another one is for PostgreSQL, which refuses to run as root: the process gives up root but keeps
the right to walk into directories (CAP_DAC_READ_SEARCH, or CAP_DAC_OVERRIDE where a container has only that), so that
data and programs under root's home can be reached without loosening anybody's permissions.
"""

import ctypes
import os
import struct
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def become(uid: int, gid: int) -> None:
    """Drops root for ``uid``; keeps the capability to reach files, unless the kernel refuses that."""
    kept = next(
        (cap for cap in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE) if libc.prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1), None
    )
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if kept is None:
        return
    mask = 1 << kept
    header = struct.pack("<Ii", CAPABILITY_VERSION_3, 0)
    # effective, permitted, inheritable for capabilities 0-31, then the same for 32-63 (linux/capability.h)
    libc.capset(header, struct.pack("<6I", mask, mask, mask, 0, 0, 0))
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept, 0, 0)


def main(parent: int, death_signal: int, uid: int, gid: int, command: list[str]) -> None:
    if uid >= 0:
        become(uid, gid)
    # After the change of user: that clears the death signal.
    libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    os.execvpe(command[0], command, os.environ)


if __name__ == "__main__":
    parent, death_signal, uid, gid = map(int, sys.argv[1:5])
    main(parent, death_signal, uid, gid, sys.argv[5:])

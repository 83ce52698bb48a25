"""Runs a stranger's Python in a process of its own: ``python -I jail.py run STAGE FILE``, started by ``sandbox.py``.

Stage 1 asks the kernel for namespaces without network, with all file systems read-only and no other process in sight,
and starts stage 2 there, without privileges. Stage 2 refuses dangerous events of the interpreter and runs the file.
This module imports nothing but the standard library, since it runs isolated.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MOUNT_SETATTR = 442  # the same number on all architectures
AT_FDCWD = -100
AT_RECURSIVE = 0x8000
MOUNT_ATTR_RDONLY = 1
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
EXIT_NOT_ISOLATED = 77
"""Status with which stage 1 ends where the kernel refuses namespaces."""
REFUSED = (
    "socket.",
    "subprocess.",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "os.kill",
    "os.killpg",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
    "os.truncate",
    "os.utime",
    "os.putenv",
    "shutil.",
    "ctypes.",
    "signal.pthread_kill",
    "pty.",
    "fcntl.",
    "ftplib.",
    "urllib.",
)


class MountAttributes(ctypes.Structure):
    """The kernel's `struct mount_attr`."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def enter_namespaces() -> bool:
    """Moves this process's children into namespaces of their own; False where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWPID):
        return False
    read_only = MountAttributes(set=MOUNT_ATTR_RDONLY)
    size = ctypes.c_size_t(ctypes.sizeof(read_only))
    return not libc.syscall(MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, ctypes.byref(read_only), size)


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Audit hook: refuses network, processes, signals, native libraries, and opening files to write."""
    if event.startswith(REFUSED):
        raise PermissionError(f"{event} is not allowed here")
    if event == "open":
        _, mode, flags = arguments
        writes = isinstance(mode, str) and set(mode) & set("wax+")
        if writes or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            raise PermissionError("files may only be read here")


def main(stage: str, path: str) -> None:
    """Stage 1 isolates and starts stage 2; stage 2 runs the file."""
    if stage == "isolated":
        if not enter_namespaces():
            sys.exit(EXIT_NOT_ISOLATED)
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            # Without a user mapping, the new program starts without any privilege in its namespaces.
            os.execv(sys.executable, [sys.executable, "-I", "-B", __file__, "run", path])
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    sys.addaudithook(refuse)
    sys.argv = ["code"]
    runpy.run_path(path, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

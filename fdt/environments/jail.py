"""Runs a stranger's Python in a process of its own: ``python -I jail.py STAGE SETTINGS``, started by ``sandbox.py``.

Three processes. The *runner* asks the kernel for namespaces. Its child is process 1 of the new process namespace: it
mounts a fresh ``/proc``, makes every file system read-only and without devices, and starts and awaits the *worker*,
which gives away what it does not need (Landlock, seccomp) and runs the file. When process 1 ends, the kernel ends
all others of its namespace, whatever they did to be left alone. This module imports nothing but the standard library,
since it runs isolated.

What became of it goes through a pipe that the code never sees: a line ``refused`` with a reason, or ``started``; then
``ended`` with the status.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
NAMESPACES = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWCGROUP
MOUNT_SETATTR = 442  # system calls since 5.1 have the same number on all architectures
LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446
AT_FDCWD = -100
AT_RECURSIVE = 0x8000
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
MS_PRIVATE_RECURSIVE = 0x4000 | 0x40000
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
LANDLOCK_READ_FILE = 4
LANDLOCK_READ_DIR = 8
LANDLOCK_RIGHTS = ((5, 0xFFFF), (3, 0x7FFF), (2, 0x3FFF), (1, 0x1FFF))
"""What each version of Landlock can refuse of files: (version, rights), the newest first."""
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


class Ruleset(ctypes.Structure):
    """The kernel's `struct landlock_ruleset_attr`."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("files", "network", "scopes")]


class PathBeneath(ctypes.Structure):
    """The kernel's `struct landlock_path_beneath_attr`."""

    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("folder", ctypes.c_int32)]


class Program(ctypes.Structure):
    """The kernel's `struct sock_fprog`."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


LIBC = ctypes.CDLL(None, use_errno=True)


def require(done: int, what: str) -> None:
    """Raises OSError where a call of the C library did not return 0."""
    if done:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def mount_fresh_proc() -> None:
    """Covers `/proc` with one that knows this namespace only, or with an empty folder where the kernel refuses that."""
    require(LIBC.mount(None, b"/", None, MS_PRIVATE_RECURSIVE, None), "mount")
    if LIBC.mount(b"proc", b"/proc", b"proc", MS_NOSUID_NODEV_NOEXEC, None):
        require(LIBC.mount(b"none", b"/proc", b"tmpfs", MS_NOSUID_NODEV_NOEXEC, None), "mount of /proc")


def protect_mounts() -> None:
    """Makes every file system read-only, without devices and set-user-id programs."""
    wanted = MountAttributes(set=MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    done = LIBC.syscall(MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, ctypes.byref(wanted), size)
    require(done, "mount_setattr")


def prepare_mounts() -> None:
    """What process 1 does to the file systems of its namespace."""
    mount_fresh_proc()
    protect_mounts()


def limit_files(readable: list[str]) -> None:
    """Landlock: nothing can be opened but, to read, what lies beneath `readable`; a FIFO or a device is a file too."""
    version = LIBC.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    require(int(version < 1), "Landlock")
    rights = next(rights for since, rights in LANDLOCK_RIGHTS if version >= since)
    rules = Ruleset(files=rights, network=3 if version >= 4 else 0, scopes=3 if version >= 6 else 0)
    size = ctypes.c_size_t(8 if version < 4 else 16 if version < 6 else 24)
    ruleset = LIBC.syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(rules), size, 0)
    require(int(ruleset < 0), "landlock_create_ruleset")
    for path in readable:
        if os.path.exists(path):
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = LANDLOCK_READ_FILE | (LANDLOCK_READ_DIR if os.path.isdir(path) else 0)
            rule = PathBeneath(rights=allowed, folder=folder)
            require(LIBC.syscall(LANDLOCK_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0), "landlock_add_rule")
            os.close(folder)
    require(LIBC.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def filter_system_calls(path: str) -> None:
    """seccomp: loads the program that `syscalls.py` wrote to `path`."""
    with open(path, "rb") as source:
        program = source.read()
    wanted = Program(len(program) // 8, program)
    require(LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(wanted), 0, 0), "seccomp")


def set_limits(settings: dict[str, Any]) -> None:
    """Bounds what a process may use; the filter of system calls keeps it a single one."""
    for limit, most in (
        (resource.RLIMIT_CPU, settings["cpu"]),
        (resource.RLIMIT_AS, settings["memory"]),
        (resource.RLIMIT_FSIZE, settings["written"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(limit, (most, most))


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Audit hook: refuses network, processes, signals, native libraries, `/proc`, and opening files to write."""
    if event.startswith(REFUSED):
        raise PermissionError(f"{event} is not allowed here")
    if event in ("open", "os.listdir", "os.scandir"):
        path = arguments[0]
        if isinstance(path, str | bytes) and os.path.realpath(os.fsdecode(path)).startswith("/proc"):
            raise PermissionError("/proc may not be read here")
    if event == "open":
        _, mode, flags = arguments
        writes = isinstance(mode, str) and set(mode) & set("wax+")
        if writes or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            raise PermissionError("files may only be read here")


def start_worker(settings: dict[str, Any]) -> int:
    """Forks, and becomes the worker in the child; its process id."""
    child = os.fork()
    if child == 0:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.set_inheritable(settings["report"], True)
        # Without a user mapping, the new program starts without any privilege in its namespaces.
        os.execv(sys.executable, [sys.executable, "-I", "-B", __file__, "work", json.dumps(settings)])
    return child


def report(settings: dict[str, Any], line: str) -> None:
    """Writes a line that the trainer reads."""
    os.write(settings["report"], f"{line}\n".encode())


def await_worker(settings: dict[str, Any]) -> NoReturn:
    """Starts the worker, reaps every child until it has ended, reports its status, and ends."""
    worker = start_worker(settings)
    ended = 0
    while ended != worker:
        ended, status = os.wait()
    report(settings, f"ended {os.waitstatus_to_exitcode(status)}")
    os._exit(0)


def run_isolated(settings: dict[str, Any]) -> NoReturn:
    """The runner: asks for namespaces, and becomes the parent of their process 1."""
    require(LIBC.unshare(NAMESPACES), "user namespaces")
    first = os.fork()
    if first == 0:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        report_fault(settings, prepare_mounts)
        await_worker(settings)
    os.close(settings["report"])
    os.waitpid(first, 0)
    os._exit(0)


def report_fault(settings: dict[str, Any], act: Callable[[], object]) -> None:
    """Does something; ends the process with a report where the system refuses it."""
    try:
        act()
    except OSError as fault:
        report(settings, f"refused {fault.strerror or fault}")
        os._exit(1)


def confine(settings: dict[str, Any]) -> None:
    """Gives away what the code does not need; raises OSError where the system offers no way, unless that is waived."""
    steps: list[Callable[[], None]] = [lambda: limit_files(settings["readable"])]
    if settings["filter"]:  # first, since it is a file to read
        steps.insert(0, lambda: filter_system_calls(settings["filter"]))
    for step in steps:
        try:
            step()
        except OSError:
            if settings["isolated"]:
                raise


def work(settings: dict[str, Any]) -> None:
    """The worker: confines itself and runs the file."""
    report_fault(settings, lambda: confine(settings))
    report(settings, "started")
    os.close(settings["report"])
    sys.argv = ["code"]
    if not settings["isolated"]:
        sys.addaudithook(refuse)
    runpy.run_path(settings["script"], run_name="__main__")


def main(stage: str, settings: dict[str, Any]) -> None:
    """Runs one stage: `run` or `work`."""
    if stage == "work":
        work(settings)
        return
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.set_inheritable(settings["report"], False)
    set_limits(settings)
    if settings["isolated"]:
        report_fault(settings, lambda: run_isolated(settings))
    await_worker(settings)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))

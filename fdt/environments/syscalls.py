"""Which system calls code that a policy wrote may not make, as a program for the kernel (seccomp).

One process with threads is left: no second process, no other program, no socket that reaches anything, no memory that
no limit counts, and none of the calls through which kernels have been broken into.
"""

from __future__ import annotations

import errno
import tempfile
from functools import lru_cache

CLONE_THREAD = 0x00010000
PROCESSES = ("fork", "vfork", "execve", "execveat", "pidfd_open", "pidfd_getfd", "pidfd_send_signal")
NETWORK = ("socket", "connect", "bind", "listen", "accept", "accept4")
FORWARDING = ("io_uring_setup", "io_uring_enter", "io_uring_register")  # calls that no filter sees
MEMORY = ("memfd_create", "memfd_secret", "shmget", "shmat", "shmctl", "semget", "msgget", "mq_open")
OTHERS = ("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "kill", "tkill")
KERNEL = (
    *("unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "mount_setattr", "move_mount", "open_tree"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key"),
    *("request_key", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot"),
    *("swapon", "swapoff", "quotactl", "acct", "settimeofday", "clock_settime", "adjtimex", "sethostname"),
    *("setdomainname", "open_by_handle_at", "name_to_handle_at", "fanotify_init", "personality", "vhangup"),
    *("syslog", "modify_ldt", "iopl", "ioperm", "lookup_dcookie", "uselib", "nfsservctl", "ustat", "sysfs"),
)
PR_SET_PDEATHSIG = 1
TIOCSTI = 0x5412  # types into a terminal
TIOCLINUX = 0x541C


@lru_cache(maxsize=1)
def compile_filter() -> bytes:
    """The program, 8 bytes an instruction, for the machine at hand; calls of another architecture end the process.

    Raises:
        OSError: where the system has no libseccomp.
    """
    try:
        import pyseccomp
    except (ImportError, RuntimeError) as fault:
        raise OSError(f"seccomp: {fault}") from fault
    program = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    denied = pyseccomp.ERRNO(errno.EPERM)
    for call in (*PROCESSES, *NETWORK, *FORWARDING, *MEMORY, *OTHERS, *KERNEL):
        try:
            program.add_rule(denied, call)
        except (OSError, ValueError):
            continue  # a call that this architecture, or this release of the library, does not know
    program.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")  # its flags lie in memory; libraries then call clone
    program.add_rule(denied, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, CLONE_THREAD, 0))
    program.add_rule(denied, "prctl", pyseccomp.Arg(0, pyseccomp.EQ, PR_SET_PDEATHSIG))
    for request in (TIOCSTI, TIOCLINUX):
        program.add_rule(denied, "ioctl", pyseccomp.Arg(1, pyseccomp.MASKED_EQ, 0xFFFFFFFF, request))
    with tempfile.TemporaryFile() as sink:
        program.export_bpf(sink)
        sink.seek(0)
        return sink.read()

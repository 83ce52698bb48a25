"""Each promise about code that a policy wrote, attacked: as whoever runs the tests, and as an ordinary user."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fdt.environments import EnvironmentFault, jail, sandbox
from fdt.environments.sandbox import Limits, check_isolation, run_python
from fdt.environments.syscalls import compile_filter
from fdt.environments.tools import Python

WAIVED = Limits(seconds=20, output=300, allow_unisolated=True)
NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"  # one that an ordinary user may start, wherever ours lies
isolation = pytest.mark.skipif(bool(check_isolation()), reason=f"no isolation here: {check_isolation()}")

# None of these does harm where it succeeds, since a broken jail must not break the machine: signal 0 kills nobody,
# mounts are aimed at the test's own folder, children end at once.
ATTACKS = """
import ctypes, json, os, signal, socket, threading
libc = ctypes.CDLL(None, use_errno=True)

def syscall(*numbers):
    return check(libc.syscall(*map(ctypes.c_long, numbers)))

def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def spawn(child):
    if child == 0:
        os._exit(0)
    check(child)

def share(size):
    libc.shmctl(check(libc.shmget(0, size, 0o1600)), 0, None)

def connect(family, address):
    made = socket.socket(family)
    made.connect(address)

def allocate():
    bytearray(1 << 30)

def write(path):
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

x86 = os.uname().machine == "x86_64"
attacks = {
    "TCP": lambda: connect(socket.AF_INET, ("127.0.0.1", PORT)),
    "a socket of a path": lambda: connect(socket.AF_UNIX, FOLDER + "/socket"),
    "an abstract socket": lambda: connect(socket.AF_UNIX, chr(0) + ABSTRACT),
    "AF_VSOCK": lambda: socket.socket(40, socket.SOCK_STREAM),
    "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "io_uring, where no filter looks": lambda: syscall(425, 1, 0),
    "fork": lambda: spawn(libc.fork()),
    "clone": lambda: spawn(syscall(56 if x86 else 220, 17, 0, 0, 0, 0)),
    "clone3": lambda: syscall(435, 0, 0),
    "another program": lambda: check(libc.execv(b"/bin/true", None)),
    "a death that the parent's does not bring": lambda: check(libc.prctl(1, 0, 0, 0, 0)),
    "other processes by name": lambda: open("/proc/1/cmdline").read(),
    "the trainer's environment": lambda: open(f"/proc/{os.getppid()}/environ", "rb").read(),
    "its own process folder": lambda: open("/proc/self/maps").read(),
    "list of processes": lambda: os.listdir("/proc"),
    "the data file": lambda: open(FOLDER + "/data.jsonl").read(),
    "another session's code": lambda: open(FOLDER + "/fdt-other/code.py").read(),
    "temporary folders": lambda: os.listdir(os.path.dirname(FOLDER)),
    "accounts": lambda: open("/etc/passwd").read(),
    "write a file": lambda: write(FOLDER + "/writable"),
    "make a file": lambda: open(FOLDER + "/new", "w"),
    "make a folder": lambda: os.mkdir(FOLDER + "/folder"),
    "remove": lambda: os.remove(FOLDER + "/writable"),
    "rename": lambda: os.rename(FOLDER + "/writable", FOLDER + "/moved"),
    "mode": lambda: os.chmod(FOLDER + "/writable", 0o777),
    "times": lambda: os.utime(FOLDER + "/writable", (1, 1)),
    "truncate": lambda: os.truncate(FOLDER + "/writable", 0),
    "a FIFO": lambda: write(FOLDER + "/fifo"),
    "/dev/null": lambda: write("/dev/null"),
    "/dev/tty": lambda: write("/dev/tty"),
    "/dev/ptmx": lambda: os.open("/dev/ptmx", os.O_RDWR),
    "read a device": lambda: open("/dev/zero", "rb").read(1),
    "a device of one's own": lambda: open(FOLDER + "/device", "rb").read(1),
    "mount": lambda: check(libc.mount(b"none", FOLDER.encode() + b"/mounted", b"tmpfs", 0, None)),
    "mount writable again": lambda: check(libc.mount(None, FOLDER.encode(), None, 32, None)),
    "further namespaces": lambda: check(libc.unshare(0x10000000)),
    "ptrace": lambda: check(libc.ptrace(0, 0, 0, 0)),
    "memory of process 1": lambda: open("/proc/1/mem", "rb"),
    "signal to all": lambda: os.kill(-1, 0),
    "signal to process 1": lambda: os.kill(1, 0),
    "memory that no limit counts": lambda: share(4096),
    "a file of memory": lambda: os.memfd_create("x"),
    "a gigabyte": allocate,
    "BPF": lambda: syscall(321 if x86 else 280, 0, 0, 0),
    "performance events": lambda: syscall(298 if x86 else 241, 0, 0, 0, 0, 0),
    "keys": lambda: syscall(250 if x86 else 219, 0, 0, 0),
}
outcome = {"environment": sorted(os.environ), "descriptors": []}
for number in range(3, 64):
    try:
        os.fstat(number)
        outcome["descriptors"].append(number)
    except OSError:
        pass
for name, attack in attacks.items():
    try:
        attack()
        outcome[name] = "done"
    except MemoryError:
        outcome[name] = "refused"
    except OSError as fault:
        # EPERM: seccomp; EACCES: Landlock; EROFS: mounts; ENOSYS: clone3. Another error is a fault of the attack.
        outcome[name] = "refused" if fault.errno in (1, 13, 30, 38) else str(fault)
print(json.dumps(outcome))
"""


@pytest.fixture
def target(tmp_path_factory):
    """A folder with what attacks are aimed at, open to everybody, and listening sockets."""
    folder = tmp_path_factory.mktemp("target")
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o777)
    (folder / "fdt-other").mkdir()
    (folder / "mounted").mkdir()
    for name in ("data.jsonl", "writable", "fdt-other/code.py"):
        (folder / name).write_text("the reference answer")
        (folder / name).chmod(0o666)
    os.mkfifo(folder / "fifo", 0o666)
    (folder / "fifo").chmod(0o666)
    if os.geteuid() == 0:
        os.mknod(folder / "device", 0o20666, os.makedev(1, 5))
    reader = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    abstract = f"fdt-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as path,
        socket.socket(socket.AF_UNIX) as hidden,
    ):
        path.bind(f"{folder}/socket")
        (folder / "socket").chmod(0o777)
        hidden.bind("\0" + abstract)
        for server in (path, hidden):
            server.listen()
        names = f"PORT = {tcp.getsockname()[1]}\nFOLDER = {str(folder)!r}\nABSTRACT = {abstract!r}\n"
        yield folder, names
    os.close(reader)


def run_as_nobody(folder: Path, code: str) -> str:
    """What code prints where an ordinary user runs it through the same runner and the same settings."""
    base = Path(tempfile.gettempdir()).resolve()
    for parent in folder.resolve().parents:
        if parent != base and parent.is_relative_to(base):
            parent.chmod(parent.stat().st_mode | 0o011)  # workers of pytest have folders that nobody else may enter
    own = folder / "own"
    own.mkdir()
    shutil.copy(jail.__file__, own / "jail.py")
    (own / "code.py").write_text(code)
    source, sink = os.pipe()
    settings = sandbox.write_settings(own / "code.py", Limits(seconds=60), True, sink)
    for path in [own, *own.iterdir()]:
        path.chmod(0o755)
    done = subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", SYSTEM_PYTHON, "-I", "-B"]
        + [str(own / "jail.py"), "run", json.dumps(settings)],
        env={"HOME": "/", "LANG": "C.UTF-8"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        pass_fds=(sink,),
        check=False,
    )
    os.close(sink)
    with open(source) as pipe:
        lines = pipe.read().split("\n")
    assert lines[0] == "started", (lines, done.stderr)
    return done.stdout


def is_ordinary_user_possible() -> bool:
    return os.geteuid() == 0 and os.path.exists(SYSTEM_PYTHON) and shutil.which("setpriv") is not None


@isolation
@pytest.mark.parametrize("user", ["own", "nobody"])
def test_every_attack_is_refused(user, target):
    folder, names = target
    if user == "own":
        result = run_python(names + ATTACKS, Limits(seconds=60))
        assert result.fault is None, result
        text = result.text
    elif is_ordinary_user_possible():
        text = run_as_nobody(folder, names + ATTACKS)
    else:
        pytest.skip("needs root, setpriv and a Python of the system")
    outcome = json.loads(text)
    # LC_CTYPE is set by Python itself where the locale is C.
    assert set(outcome.pop("environment")) <= {"HOME", "LANG", "LC_CTYPE"}
    assert outcome.pop("descriptors") == []
    if os.geteuid() != 0:
        outcome.pop("a device of one's own")  # only root can have made it
    assert {name: found for name, found in outcome.items() if found != "refused"} == {}
    assert len(outcome) > 40 and (folder / "writable").read_text() == "the reference answer"


SUCCEED = {
    *("TCP", "a socket of a path", "an abstract socket", "the data file", "another session's code", "write a file"),
    *("a FIFO", "/dev/null", "list of processes", "a file of memory"),
}


def test_the_same_attacks_succeed_outside(target):
    """What is refused above is there to be had: a few of the same attacks, without the jail."""
    _, names = target
    some = ATTACKS.replace("in attacks.items()", f"in ((name, attacks[name]) for name in {sorted(SUCCEED)})")
    done = subprocess.run([sys.executable, "-c", names + some], capture_output=True, text=True, timeout=60, check=True)
    outcome = json.loads(done.stdout)
    assert {name for name, found in outcome.items() if found == "done"} == SUCCEED


def list_processes(marker: str) -> list[int]:
    """The processes whose command line holds a text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in line and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("isolated", [pytest.param(True, marks=isolation), False])
def test_nothing_outlives_its_time(isolated, monkeypatch):
    """Ignored signals, a session of its own and threads: when the time is over, all of it is."""
    code = """
import ctypes, os, signal, threading
libc = ctypes.CDLL(None)
libc.prctl(1, 0, 0, 0, 0)
os.setsid()
for number in (1, 2, 3, 15):
    signal.signal(number, signal.SIG_IGN)
def burn():
    while True: pass
for _ in range(3):
    threading.Thread(target=burn, daemon=True).start()
print("burning", flush=True)
burn()
"""
    if not isolated:
        monkeypatch.setattr(sandbox, "check_isolation", lambda: "no namespaces")
        code = code.replace("import ctypes, ", "import ").replace(
            "libc = ctypes.CDLL(None)\nlibc.prctl(1, 0, 0, 0, 0)", ""
        )
    result = run_python(code, Limits(seconds=1, allow_unisolated=True))
    assert result == sandbox.RunResult("burning", "stopped after 1 s")
    until = time.monotonic() + 10
    while list_processes(jail.__file__) and time.monotonic() < until:
        time.sleep(0.05)
    assert not list_processes(jail.__file__)


@isolation
def test_what_the_system_refuses_later_is_not_blamed_on_the_policy(monkeypatch):
    assert run_python("import os; os._exit(77)", Limits(seconds=20)).fault == "ended with status 77"
    monkeypatch.setattr(sandbox, "list_readable", lambda: 7)  # a runner that breaks before it starts the code
    with pytest.raises((EnvironmentFault, TypeError)):
        run_python("print(1)", Limits(seconds=20))
    monkeypatch.undo()
    monkeypatch.setattr(sandbox, "compile_filter", lambda: b"\0" * 7)  # no program of seccomp
    with pytest.raises(EnvironmentFault, match="did not start"):
        run_python("print(1)", Limits(seconds=20))


def test_without_isolation_code_runs_only_where_that_is_waived(monkeypatch):
    monkeypatch.setattr(sandbox, "check_isolation", lambda: "user namespaces: Operation not permitted")
    with pytest.raises(EnvironmentFault, match=r"user namespaces: .*limits\.allow_unisolated"):
        run_python("print(1)", Limits())
    assert run_python("print(1)", WAIVED).text == "1"


@pytest.mark.parametrize("landlock", [True, False])
@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket()",
        "open('/tmp/left-behind', 'w')",
        "import os; os.mkdir('/tmp/left-behind')",
        "import os; os.fork()",
        "import subprocess; subprocess.run(['ls'])",
        "import ctypes; ctypes.CDLL(None)",
        "import os; open(f'/proc/{os.getppid()}/environ')",
        "import os; os.listdir('/proc/self/task')",
    ],
)
def test_where_isolation_is_waived_honest_code_is_refused(code, landlock, monkeypatch):
    monkeypatch.setattr(sandbox, "check_isolation", lambda: "no namespaces")
    if not landlock:  # nor seccomp: audit events alone
        monkeypatch.setattr(sandbox, "list_readable", lambda: ["/"])
        monkeypatch.setattr(sandbox, "compile_filter", refuse_filter)
    text = run_python(f"try:\n    {code}\nexcept BaseException as found:\n    print(type(found).__name__)", WAIVED).text
    assert text == "PermissionError"


def refuse_filter() -> bytes:
    raise OSError("no libseccomp")


def test_code_says_what_it_prints_and_how_it_ended():
    assert run_python("print(6 * 7)", WAIVED) == sandbox.RunResult("42")
    failed = run_python("def f():\n    return 1 / 0\nf()", WAIVED)
    assert failed.fault == "ended with status 1" and failed.text.endswith("ZeroDivisionError: division by zero")
    assert 'File "code.py", line 2, in f' in failed.text and "runpy" not in failed.text and "jail" not in failed.text
    long = run_python("print('x' * 10**6)", WAIVED)
    assert long.text.startswith("x" * 300) and long.text.endswith("[cut after 300 characters]")
    assert Python(WAIVED)({"code": "pass"}) == "[no output]"


@isolation
def test_what_policies_write_still_runs():
    code = """
import asyncio, threading, numpy, random, os
asyncio.run(asyncio.sleep(0))
thread = threading.Thread(target=lambda: print("thread"))
thread.start(); thread.join()
print(int(numpy.arange(4).sum()), os.cpu_count() > 0, len(os.urandom(3)))
"""
    assert run_python(code, Limits(seconds=60)).text.split() == ["thread", "6", "True", "3"]


def test_the_filter_is_a_program_of_whole_instructions():
    try:
        program = compile_filter()
    except OSError as fault:
        pytest.skip(str(fault))
    assert program and len(program) % 8 == 0

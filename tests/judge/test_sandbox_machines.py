"""Machines that lack something: each is told by name, with the tier that is left, never silently weaker."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import descendants, is_running, wait_until

from bughunt.errors import MachineError
from bughunt.judge import folders
from bughunt.judge.program import ProgramError, RemoteProgram, open_program
from bughunt.judge.sandbox import kernel, landlock, newroot, privileges, readable, seccomp, syscalls
from bughunt.judge.sandbox.bubblewrap import Bubblewrap
from bughunt.judge.sandbox.fence import Fence, Tier
from bughunt.judge.zygote import Launcher, Zygote

# Runs the rest of its command line on a kernel that does not know some of its system calls.
POORER = """
import errno, os, sys
from bughunt.judge.sandbox import kernel, seccomp

code = [(seccomp.LOAD, 0, 0, seccomp.NUMBER)]
for number in sys.argv[1].split(","):
    code += [(seccomp.EQUAL, 0, 1, int(number)), (seccomp.RETURN, 0, 0, seccomp.ERRNO | errno.ENOSYS)]
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.apply([*code, (seccomp.RETURN, 0, 0, seccomp.ALLOW)])
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
# Runs the rest of its command line in a container of so many users in which a part of /proc is masked.
MASKED = """
import os, sys
from bughunt.judge.sandbox import kernel

def into_a_container(count):
    container, uid, gid = os.getpid(), os.getuid(), os.getgid()
    ready, done = os.pipe(), os.pipe()
    if os.fork() == 0:  # outside, where there is a right to map more users than one
        os.read(ready[0], 1)
        if uid:
            open(f"/proc/{container}/setgroups", "w").write("deny")
        open(f"/proc/{container}/uid_map", "w").write(f"{uid} {uid} {count}")
        open(f"/proc/{container}/gid_map", "w").write(f"{gid} {gid} {count}")
        os.write(done[1], b"x")
        os._exit(0)
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
    os.write(ready[1], b"x")
    os.read(done[0], 1)

into_a_container(sys.argv[1])
kernel.mount("none", "/proc/sys", "tmpfs", 0)
into_a_container(sys.argv[1])  # in which the mask cannot be taken off
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
SURVEY = ["-P", "-m", "bughunt.judge.sandbox.tier"]
ARM = platform.machine() != "x86_64"
UNSHARE, MOUNT_SETATTR, RULESET, SECCOMP = (97, 442, 444, 277) if ARM else (272, 442, 444, 317)
ROOT = os.geteuid() == 0


def survey(*words: str) -> dict[str, object]:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def poorer(*missing: int) -> list[str]:
    return [sys.executable, "-P", "-c", POORER, ",".join(map(str, missing))]


@pytest.mark.parametrize(
    ("missing", "left", "reason"),
    [
        ([UNSHARE], "S1", "unshare: Function not implemented"),
        ([MOUNT_SETATTR], "S1", "mount_setattr: Function not implemented"),
        ([RULESET], "S0", "Landlock is at version 0"),
        ([SECCOMP], "S0", "seccomp: Function not implemented"),
        ([UNSHARE, SECCOMP], "S0", "unshare: Function not implemented"),
    ],
    ids=["no namespaces", "old mounts", "no Landlock", "no seccomp", "neither"],
)
def test_what_a_kernel_lacks_is_named(missing: list[int], left: str, reason: str) -> None:
    found = survey(*poorer(*missing), *SURVEY)
    assert found["tier"] == left
    assert reason in str(found["lacking"])


@pytest.mark.skipif(not ROOT, reason="only root has privileges to lose")
def test_root_in_a_container_without_privileges_has_the_first_tier() -> None:
    drop = "from bughunt.judge.sandbox import privileges as p\np.drop_capabilities()\n"
    run = f"{drop}import runpy\nrunpy.run_module('bughunt.judge.sandbox.tier', run_name='__main__')"
    found = survey(sys.executable, "-P", "-c", run)
    assert found["tier"] == "S1"
    assert "root may not change its user" in str(found["lacking"])


def test_a_masked_proc_is_named() -> None:
    """As in a container: part of /proc lies below another mount, and the kernel refuses a fresh one."""
    found = survey(sys.executable, "-P", "-c", MASKED, str(1 << 16 if ROOT else 1), *SURVEY)
    assert found["tier"] == "S1"
    assert "mount proc: Operation not permitted" in str(found["lacking"])


@pytest.mark.skipif(not ROOT, reason="only root has users to change to")
def test_a_container_with_a_single_user_is_named() -> None:
    found = survey(sys.executable, "-P", "-c", MASKED, "1", *SURVEY)
    assert found["tier"] == "S1"
    assert "no users to change to" in str(found["lacking"])


def test_a_zygote_refuses_to_start_below_the_tier_asked_for() -> None:
    class Poorer(Zygote):
        def command(self, descriptor: int) -> list[str]:
            return [*poorer(UNSHARE), *super().command(descriptor)[1:]]

    with Poorer() as best:
        with open_program(best, {"train.py": "def f(): return 1"}) as program:
            assert program.call("f") == 1
        assert (best.tier, list(best.lacking)) == (Tier.S1, ["S2"])
    with Poorer(tier=Tier.S2) as zygote:
        for _ in range(2):
            with pytest.raises(
                MachineError, match=r"S2 is asked for: .*unshare: Function not impl"
            ) as caught:
                open_program(zygote, {"train.py": ""})
        assert caught.value.exit_code == 3


def test_a_gpu_has_no_fence_and_says_so() -> None:
    with Zygote("cuda", Tier.S1) as zygote, pytest.raises(MachineError, match="S1 is asked for: a GPU"):
        open_program(zygote, {"train.py": ""})


# --- the end of everything ---


WAYS = ["S0", "S1", "S2", *(["bubblewrap"] if shutil.which("bwrap") else [])]


@pytest.fixture(params=WAYS)
def launcher(request: pytest.FixtureRequest) -> Iterator[Launcher]:
    if request.param == "bubblewrap":
        with Bubblewrap() as bubblewrap:
            yield bubblewrap
    else:
        tier = Tier[request.param]
        with Zygote(tier=tier, most=tier) as zygote:
            yield zygote


def spin(program: RemoteProgram) -> None:
    with pytest.raises(ProgramError):
        program.call("spin")


@pytest.mark.parametrize("victim", [0, -2], ids=["outermost", "zygote"])
def test_nothing_survives_the_zygote(launcher: Launcher, victim: int) -> None:
    """A change of user clears the order to die with one's parent; a spinning program hears of nothing."""
    known = set(descendants(os.getpid()))
    program = open_program(launcher, {"train.py": "def spin():\n    while True: pass\n"})
    spinning = threading.Thread(target=spin, args=(program,))
    spinning.start()
    ours = [program.process.zygote.process.pid, *descendants(program.process.zygote.process.pid)]
    os.kill(ours[victim], signal.SIGKILL)
    spinning.join()
    assert len(ours) >= 2
    assert wait_until(lambda: not any(map(is_running, ours))), list(filter(is_running, ours))
    assert set(filter(is_running, descendants(os.getpid()))) <= known
    program.close()


@pytest.mark.skipif("bubblewrap" not in WAYS, reason="bwrap is not installed")
def test_a_container_started_by_root_is_an_ordinary_users() -> None:
    """Its namespace would map root to nobody and leave it root's files."""
    text = "import os\ndef look(): return open('/proc/self/uid_map').read().split()\n"
    with Bubblewrap() as bubblewrap:
        for _ in range(2):  # each in a container of its own
            with open_program(bubblewrap, {"train.py": text}) as program:
                _, outside, _ = program.call("look")
                assert int(outside) == (privileges.FIRST_UID if ROOT else os.geteuid())
                with pytest.raises(ProgramError, match=r"No such file|Permission denied"):
                    program.call("os.listdir", "/root")


# --- single layers ---


@pytest.mark.parametrize("abi", range(landlock.LEAST, landlock.version() + 1))
def test_every_version_of_landlock_holds_files(abi: int, tmp_path: Path) -> None:
    """Forked, since it cannot be undone: reading one folder, writing another, nothing else."""
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen" / "file").write_text("x")
    (tmp_path / "own").mkdir()
    script = f"""
import pathlib
from bughunt.judge.sandbox import kernel, landlock
from bughunt.judge.sandbox.readable import Readable
base = pathlib.Path({str(tmp_path)!r})
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
landlock.restrict(landlock.rules(Readable((base / "seen",), ()), [base / "own"]), abi={abi})
(base / "own" / "new").write_text("y")
print((base / "seen" / "file").read_text())
for attempt in (
    lambda: (base / "seen" / "file").write_text("z"),
    lambda: (base / "seen" / "file").unlink(),
    lambda: open(base / "seen" / "file", "r+"),
    lambda: list(base.iterdir()),
    lambda: __import__("os").truncate(base / "seen" / "file", 0),
):
    try:
        attempt()
    except PermissionError:
        print("refused")
"""
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["x"] + ["refused"] * 5


def test_what_is_hidden_is_left_out_of_the_rules(tmp_path: Path) -> None:
    for name in ("torch", "bughunt", "numpy"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("/etc")
    found = readable.Readable((tmp_path,), (tmp_path / "bughunt",))
    below = {path.name: rights for path, rights in landlock.rules(found, []) if path.is_relative_to(tmp_path)}
    assert below == {tmp_path.name: landlock.READ_DIR, "torch": landlock.READ, "numpy": landlock.READ}


def run_filter(code: seccomp.Code, machine: str, number: int, arguments: dict[int, int]) -> int:
    """What a filter answers, worked out step by step as the kernel documents it."""
    data = {0: number, 4: seccomp.AUDIT_ARCH[machine]} | {16 + 4 * half: v for half, v in arguments.items()}
    at, accumulator = 0, 0
    while True:
        operation, yes, no, constant = code[at]
        at += 1
        if operation == 0x06:
            return constant
        if operation == 0x20:
            accumulator = data.get(constant, 0)
        elif operation == 0x54:
            accumulator &= constant
        else:
            at += yes if accumulator == constant else no


OK, NO, MISSING = 0x7FFF0000, 0x00050001, 0x00050026
NUMBERS = {  # from the kernel's own headers
    "x86_64": {
        "read": 0,
        "fork": 57,
        "clone": 56,
        "kill": 62,
        "clone3": 435,
        "socket": 41,
        "prlimit64": 302,
        "ioctl": 16,
        "mmap": 9,
    },
    "aarch64": {
        "read": 63,
        "clone": 220,
        "kill": 129,
        "clone3": 435,
        "socket": 198,
        "prlimit64": 261,
        "ioctl": 29,
        "mmap": 222,
    },
}


@pytest.mark.parametrize("machine", NUMBERS)
def test_the_filter_lets_through_what_it_should(machine: str) -> None:
    code, number = seccomp.program(7, machine), NUMBERS[machine]
    thread, process, in_namespace = 0x3D0F00, 0x11, 0x10000000 | 0x3D0F00
    table = [
        ("read", {}, OK),
        ("socket", {}, NO),
        ("clone3", {}, MISSING),
        ("clone", {0: thread}, OK),
        ("clone", {0: process}, NO),
        ("clone", {0: 0x4111}, NO),
        ("clone", {0: in_namespace}, NO),
        ("kill", {0: 7}, OK),
        ("kill", {0: 8}, NO),
        ("kill", {0: 0xFFFFFFFF}, NO),
        ("prlimit64", {}, OK),
        ("prlimit64", {4: 0x1000}, NO),
        ("prlimit64", {5: 0x7FFF}, NO),
        ("ioctl", {2: 0x5401}, OK),
        ("ioctl", {2: 0x5412}, NO),
        ("mmap", {6: 0x22}, OK),
        ("mmap", {6: 0x20022}, OK),
        ("mmap", {6: 0x01}, OK),
        ("mmap", {6: 0x21}, NO),
        ("mmap", {6: 0x23}, NO),
        ("mmap", {6: 0x122}, NO),
    ]
    assert [run_filter(code, machine, number[name], given) for name, given, _ in table] == [
        w for *_, w in table
    ]
    assert run_filter(code, machine, 0x40000000 | number["read"], {}) == NO
    other = next(name for name in NUMBERS if name != machine)
    assert run_filter(code, other, number["read"], {}) == 0x80000000
    assert len(code) < 4096


@pytest.mark.skipif(
    ARM or not Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").exists(), reason="no headers"
)
def test_the_numbers_are_the_kernels() -> None:
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").read_text()
    listed = dict(line.split()[1:3] for line in header.splitlines() if line.startswith("#define __NR_"))
    groups = (
        syscalls.FILES,
        syscalls.WAITING,
        syscalls.MEMORY,
        syscalls.ITSELF,
        syscalls.FACTS,
        syscalls.CHANNEL,
    )
    for name, number in syscalls.numbers(*groups, syscalls.CONDITIONAL, machine="x86_64").items():
        assert int(listed[f"__NR_{name}"]) == number, name


def test_the_way_to_a_path_goes_by_its_links(tmp_path: Path) -> None:
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "again").symlink_to("../real/inner")
    assert list(newroot.way_to(tmp_path / "link" / "again")) == [
        (tmp_path / "link", Path("real")),
        (tmp_path / "real" / "again", Path("../real/inner")),
        (tmp_path / "real" / "inner", None),
    ]


def test_folders_in_folders_are_removed_however_deep(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    here = os.open(target, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    (tmp_path / "precious").write_text("kept")
    (target / "link").symlink_to(tmp_path)
    folders.remove(target)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_tier_is_a_fence_with_its_name() -> None:
    assert [tier.name for tier in Tier] == ["S0", "S1", "S2"]
    assert not Fence(Tier.S1, Path("/tmp")).real_uids
    assert kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS + 1) in (0, 1)

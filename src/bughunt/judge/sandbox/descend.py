"""From root to an ordinary user who can still read an interpreter that lies below a folder of root's.

`python -m bughunt.judge.sandbox.descend UID COMMAND...`, started by root, runs the command as that user in a
root of files that holds the system's libraries, the interpreter and bughunt, and one folder to write to.
Started by anybody else with a folder instead of the UID it only makes that one a folder with bounds.
"""

import os
import sys
import tempfile
from pathlib import Path

from bughunt.judge.sandbox import kernel, namespaces, newroot, privileges, readable

DISK_BYTES = 64 << 20


def main() -> None:
    place, *command = sys.argv[1:]
    if os.geteuid():
        keep_to(place)
    else:
        descend(int(place), command)
    os.execv(command[0], command)


def keep_to(folder: str) -> None:
    """Mount memory with bounds on the folder, which no process but this one's sees."""
    namespaces.unshare_as_user(kernel.CLONE_NEWNS)
    newroot.mount_job(DISK_BYTES, os.geteuid(), folder)


def descend(uid: int, command: list[str]) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="bughunt-"))
    around = os.open(scratch.parent, os.O_PATH)
    kernel.unshare(kernel.CLONE_NEWNS)
    newroot.move_into(scratch, readable.of_the_judge(*command[:1]), places=["/tmp"])  # where bwrap mounts
    os.rmdir(scratch.name, dir_fd=around)
    os.close(around)
    newroot.mount_proc(writable=True)  # through which a user namespace is made
    newroot.mount_job(DISK_BYTES, uid)
    privileges.become(uid)
    os.environ["TMPDIR"] = os.environ["HOME"] = newroot.JOB
    os.chdir(newroot.JOB)


if __name__ == "__main__":
    main()

"""From root to an ordinary user who can still read an interpreter that lies below a folder of root's.

`python -m bughunt.judge.sandbox.descend UID COMMAND...` runs the command as that user in a root of files
that holds the system's libraries, the interpreter and bughunt, and one folder to write to.
"""

import os
import sys
import tempfile
from pathlib import Path

from bughunt.judge.sandbox import kernel, newroot, privileges, readable

DISK_BYTES = 64 << 20


def main() -> None:
    uid, command = int(sys.argv[1]), sys.argv[2:]
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
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

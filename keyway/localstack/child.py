"""The first instructions of every child process, run as a script: give up root, tie its life to the parent, execute.

This has to happen between fork and exec, in this order, because a change of uid clears the parent-death signal; and in
a fresh interpreter rather than in a `preexec_fn`, which is unsafe in a parent with threads.

The one argument is JSON: `parent` (pid whose death kills the child, or 0), `uid` (to change to, or null), `folder`
(opened while still privileged, or null: `{folder}` in the command becomes a path through the open descriptor, so that
the new uid needs no permission on the folders above it), `nice` and `command`.
"""

import ctypes
import json
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command. Returns only by raising."""
    plan = json.loads(sys.argv[1])
    command: list[str] = plan["command"]
    if plan["folder"] is not None:
        descriptor = os.open(plan["folder"], os.O_RDONLY | os.O_DIRECTORY)
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - the signature of the standard library
        command = [part.replace("{folder}", f"/proc/self/fd/{descriptor}") for part in command]
    if plan["nice"]:
        os.nice(plan["nice"])
    if plan["uid"] is not None:
        os.setgroups([])
        os.setgid(plan["uid"])
        os.setuid(plan["uid"])
    if plan["parent"]:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != plan["parent"]:  # it died before the signal was armed
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - no shell on purpose


if __name__ == "__main__":
    main()

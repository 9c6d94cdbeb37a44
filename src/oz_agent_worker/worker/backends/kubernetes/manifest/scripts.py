"""The shell scripts that run inside a task's Pod.

They are POSIX sh and nothing more: the images are the users', with GNU, BusyBox or other
userlands. The scripts are part of every Job's spec, so their comments are here.

**The copy** (:data:`COPY_ROOT_FILESYSTEM`, ``$1`` the image's root, ``$2`` the copy)
leaves out what is not part of the image: kernel file systems, the copy's own volume, and
the secrets that the cluster mounts under ``run`` and ``var/run``. A symbolic link is
never a mount, so links are always copied. ``cp -a`` takes all names of a folder in one
call, because hard links are kept only within one call, and BusyBox images are made of
them. ``-f`` lets a repeated run replace links: Kubernetes may run an init container
again. ``set --`` builds the list, which keeps names with spaces whole. The backquotes
are there because ``$(`` has a meaning of its own in a Pod's spec.

**The task** (:func:`task_script`, ``$@`` the agent's arguments) reads the variables that
the setup script left, and becomes the agent (``exec``). A line of that file that is no shell code
would end the shell, and with it the task: ``command`` takes that from ``.`` (POSIX, XCU command). The
shell names the line, and what stood before it counts. ``declare -x`` is how bash writes its
environment, which dash and BusyBox do not know. With a teardown command the shell stays
as the agent's parent. It passes any stop signal on as SIGTERM, because an asynchronous child of
sh ignores SIGINT. It waits again when a trapped signal interrupts its ``wait``, runs the teardown
once, undisturbed by further signals, and ends with the agent's exit code. A signal that comes
before the child exists is passed on once it does. A second ``wait`` for a child that has ended
answers 127 in some shells: that is not the agent's exit code.
"""

import shlex
from typing import Final

from oz_agent_worker.worker.task_spec import WORKSPACE

__all__ = [
    "AGENT_ENTRYPOINT",
    "COPY_ROOT_FILESYSTEM",
    "ENVIRONMENT_FILE",
    "task_script",
]

#: The agent's program, from the sidecar at ``/agent``.
AGENT_ENTRYPOINT: Final = "/agent/entrypoint.sh"
#: Where a setup script writes ``KEY=VALUE`` lines for the task.
ENVIRONMENT_FILE: Final = f"{WORKSPACE}/.oz-env"

COPY_ROOT_FILESYSTEM: Final = """\
set -eu
umask 022
root=${1%/}
target=${2%/}

# copy FOLDER NAMES: copy what stands in FOLDER, but for NAMES (each between slashes)
copy() {
  folder=$1
  excluded=$2
  [ -d "$root$folder/" ] && [ ! -L "$root$folder" ] || return 0
  mkdir -p "$target$folder"
  cd "$root$folder/"
  [ -z "$folder" ] || chmod "`stat -c %a .`" "$target$folder" || :
  set --
  for name in * .[!.]* ..?*; do
    [ -e "$name" ] || [ -L "$name" ] || continue
    if [ ! -L "$name" ]; then
      case $excluded in *"/$name/"*) continue ;; esac
    fi
    set -- "$@" "./$name"
  done
  if [ $# -gt 0 ]; then cp -af "$@" "$target$folder/"; fi
}

copy '' /proc/sys/dev/target/.dockerenv/run/var/
copy /run /secrets/
copy /var /run/
if [ ! -L "$root/var" ]; then copy /var/run /secrets/; fi
"""

_READ_ENVIRONMENT: Final = """\
if [ -f "$OZ_ENVIRONMENT_FILE" ]; then
  command -v declare >/dev/null || declare() { [ "$1" != -x ] || { shift; export "$@"; }; }
  set -a
  command . "$OZ_ENVIRONMENT_FILE"
  set +a
fi
"""

_BECOME_AGENT: Final = f"""\
exec {AGENT_ENTRYPOINT} "$@"
"""

# The variables have a prefix: an agent's own variable of the same name would be changed.
_SUPERVISE_AGENT: Final = f"""\
oz_agent=
oz_early=
oz_signalled=
stop() {{
  oz_signalled=1
  if [ -n "$oz_agent" ]; then kill -s TERM "$oz_agent" 2>/dev/null || :; else oz_early=1; fi
}}
trap stop TERM INT HUP QUIT

{AGENT_ENTRYPOINT} "$@" &
oz_agent=$!
if [ -n "$oz_early" ]; then kill -s TERM "$oz_agent" 2>/dev/null || :; fi

wait "$oz_agent"
oz_code=$?
while [ -n "$oz_signalled" ]; do
  oz_signalled=
  wait "$oz_agent"
  oz_again=$?
  [ "$oz_again" -eq 127 ] || oz_code=$oz_again
done

trap : TERM INT HUP QUIT
/bin/sh -c "$oz_teardown" || echo "oz-task: the teardown command ended with exit code $?" >&2
exit "$oz_code"
"""


def task_script(teardown: str | None) -> str:
    """Return the script of the container ``task``; its arguments are the agent's."""
    if teardown is None:
        return _READ_ENVIRONMENT + _BECOME_AGENT
    return f"{_READ_ENVIRONMENT}oz_teardown={shlex.quote(teardown)}\n{_SUPERVISE_AGENT}"

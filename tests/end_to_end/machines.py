"""Machines that are namespaces of this one, each with its own processes, network, home folder and sshd.

Ray's commands for clusters stop every Ray process that they see, take fixed ports and write into the home folder. In a
namespace they see, take and write nothing of this machine's, and addresses are free to choose.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TOOLS = ("ip", "nsenter", "rsync", "ssh", "ssh-keygen", "sshd", "unshare")
SEARCHED = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")

# The home folder is the one of the user database: ssh and sshd read it there and not in HOME.
START = """\
mount --bind {folder}/passwd /etc/passwd
mount -t tmpfs none /run
mkdir /run/sshd
mount -t tmpfs none {temporary}
ip link set lo up
exec {sshd} -D -e -f {folder}/sshd_config
"""

# What processes there are told besides: nothing may be fetched, and a worker whose head is gone ends soon.
VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
}

SSHD = """\
HostKey {key}
AuthorizedKeysFile {key}.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
SetEnv RAY_TMPDIR={temporary} {variables}
"""

# There is no network to fetch a builder from: the one of the existing environment is used.
PIP = """\
[global]
no-index = true
no-build-isolation = false
disable-pip-version-check = true
root-user-action = ignore
"""

SCRIPT = """\
#!{python}
import sys
from {module} import {name}
sys.exit({name}())
"""


def missing() -> str | None:
    """Return why there can be no such machines here, or None."""
    absent = [tool for tool in TOOLS if shutil.which(tool, path=SEARCHED) is None]
    if sys.platform != "linux" or absent:
        return f"not found: {', '.join(absent)} (apt-get install openssh-server rsync iproute2)"
    if os.geteuid() != 0:
        return "only root may start machines in namespaces"
    tried = subprocess.run([*NAMESPACES, "mount", "-t", "tmpfs", "none", "/run"], capture_output=True, text=True)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else None


@dataclass(frozen=True)
class Machine:
    """A machine that runs until it is stopped; ``folder`` holds its home and what Ray keeps for itself."""

    address: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        """The home folder of its user."""
        return self.folder / "home"

    @property
    def pid(self) -> int:
        """The first process of the machine, as numbered outside."""
        threads = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(threads.read_text(encoding="utf-8").split()[0])

    def command_lines(self) -> list[str]:
        """Return the command lines of the processes of this machine."""
        inside = self.within("--pid", "--mount", "ps", "-ww", "-eo", "args")
        return subprocess.run(inside, capture_output=True, text=True, check=True).stdout.splitlines()

    def within(self, *words: str) -> list[str]:
        """Return the command that enters namespaces of this machine: their flags, then what to run there."""
        return ["nsenter", f"--target={self.pid}", *words]

    def stop(self) -> None:
        """End the machine and every process in it."""
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait(timeout=30)


def start(address: str, folder: Path, *, key: Path) -> Machine:
    """Start a machine that lets the owner of ``key`` in; sockets lie beside ``folder``, so its path has to be short."""
    home, temporary = folder / "home", folder.parent / "tmp"
    make_environment(home / "vldistill-env")
    temporary.mkdir(exist_ok=True)  # one path on all machines, as /tmp is, and on each its own
    variables = " ".join(f"{name}={value}" for name, value in VARIABLES.items())
    (folder / "sshd_config").write_text(
        SSHD.format(temporary=temporary, key=key, variables=variables), encoding="utf-8"
    )
    (folder / "passwd").write_text(_users(home), encoding="utf-8")
    script = START.format(folder=folder, temporary=temporary, sshd=shutil.which("sshd", path=SEARCHED))
    with (folder / "sshd.log").open("wb") as log:
        told = {"PATH": SEARCHED}
        process = subprocess.Popen([*NAMESPACES, "bash", "-ec", script], env=told, stdout=log, stderr=log)
    machine = Machine(address, folder, process)
    _wait_for_sshd(machine)
    return machine


def connect(first: Machine, second: Machine) -> None:
    """Lay a cable between two machines; whatever is not on the other one cannot be reached."""
    _inside(first, f"link add cable type veth peer name cable netns {second.pid}")
    for machine in (first, second):
        _inside(machine, f"addr add {machine.address}/24 dev cable")
        _inside(machine, "link set cable up")
        _inside(machine, "route add default dev cable")


def make_environment(folder: Path, *, project: bool = False) -> None:
    """Make a Python environment that has all packages of this one, with this project or without it."""
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (own,) = {path for path in sys.path if path.endswith("site-packages") and Path(path, "ray").is_dir()}
    there = [own, str(Path(__file__).resolve().parents[2])] if project else [own]
    (site / "existing.pth").write_text("\n".join([*there, ""]), encoding="utf-8")
    (folder / "pip.conf").write_text(PIP, encoding="utf-8")
    for name, module, function in (("pip", "pip._internal.cli.main", "main"), ("ray", "ray.scripts.scripts", "main")):
        script = folder / "bin" / name
        script.write_text(SCRIPT.format(python=folder / "bin/python", module=module, name=function), encoding="utf-8")
        script.chmod(0o755)


def runs_ray(machine: Machine) -> bool:
    """Tell whether a machine runs a node of a cluster."""
    return any("/raylet " in line for line in machine.command_lines())


def await_that(condition: Callable[[], bool], *, seconds: float = 200) -> None:
    """Wait until ``condition`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(1)


def _users(home: Path) -> str:
    """Return this machine's users, root's home folder replaced."""
    lines = Path("/etc/passwd").read_text(encoding="utf-8").splitlines()
    others = [line for line in lines if not line.startswith("root:")]
    return "\n".join([f"root:x:0:0:root:{home}:/bin/bash", *others, ""])


def _wait_for_sshd(machine: Machine) -> None:
    log = machine.folder / "sshd.log"
    for _ in range(200):
        if "Server listening" in log.read_text(encoding="utf-8"):
            return
        assert machine.process.poll() is None, log.read_text(encoding="utf-8")
        time.sleep(0.05)
    raise AssertionError(f"sshd did not start: {log.read_text(encoding='utf-8')}")


def _inside(machine: Machine, words: str) -> None:
    subprocess.run(machine.within("--net", "ip", *words.split()), env={"PATH": SEARCHED}, check=True)

"""A real Slurm of two nodes on this machine: its own daemons, ports, keys and folders; nothing of the system's is touched."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

NODES = ("one", "two")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE
"""


class Slurm:
    """Two nodes that take jobs between `start` and `stop`."""

    def __init__(self, folder: Path):
        self.folder, self.daemons = folder, []
        self.path = f"{os.environ['PATH']}:/usr/sbin"
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": self.path}

    def start(self) -> None:
        missing = [name for name in ("munged", "slurmctld", "slurmd") if not shutil.which(name, path=self.path)]
        assert not missing, f"{', '.join(missing)}: not installed; .ci/slurm installs Slurm"
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{name}" for option, name in files.items()]
        self._daemon("munged", "--force", "--foreground", *options)
        self.until(lambda: (self.folder / "munge.socket").exists())
        about = {"host": socket.gethostname().split(".")[0], "user": self.output("id", "-un").strip()}
        text = CONFIGURATION.format(folder=self.folder, ports=free_ports(3), **about)
        (self.folder / "slurm.conf").write_text(text)
        self._daemon("slurmctld", "-D")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        self.until(lambda: self.output("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * len(NODES))

    def stop(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            daemon.wait(timeout=30)

    def output(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout

    def submit(self, script: Path) -> str:
        done = subprocess.run(["sbatch", "--parsable", script], env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What `scontrol show job` says: JobState, ExitCode, Restarts, ..."""
        words = self.output("scontrol", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, number: str, *states: str, seconds: float = 120) -> dict[str, str]:
        self.until(lambda: self.job(number).get("JobState") in states, seconds)
        return self.job(number)

    def _daemon(self, *command: str) -> None:
        with (self.folder / f"{command[0]}-{len(self.daemons)}.out").open("w") as log:
            self.daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT))

    def until(self, true, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self._words()
            time.sleep(0.2)

    def _words(self) -> str:
        """The ends of all logs, for a test that fails."""
        logs = [*self.folder.glob("*.log"), *self.folder.glob("*.out")]
        return "\n".join(f"{log.name}:\n" + "\n".join(log.read_text().splitlines()[-15:]) for log in logs)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports

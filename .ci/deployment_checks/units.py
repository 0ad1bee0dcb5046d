"""The systemd units, by systemd's own programs."""

import pathlib
import shutil
import subprocess
import tempfile

from project import DEPLOY, SERVICES, TARGET
from settings import LAST_SAVES, MARGIN, TIMES, seconds, variables

# Of 100. What is left is the network and the limit of descriptors.
MOST_EXPOSED = 15


def stop_is_long_enough(service):
    text = (DEPLOY / f"systemd/penstock-{service}.service").read_text()
    times = variables(service)
    # The unit's comment allows a STOP_DELAY as long as in Kubernetes.
    times["STOP_DELAY"] = "5s"
    names = TIMES & set(variables(service))
    stop = sum(seconds(times[name]) for name in names) + LAST_SAVES
    given = int(text.split("TimeoutStopSec=")[1].split("\n")[0])
    return [] if given >= stop + MARGIN else [f"{service}: TimeoutStopSec={given} for {stop} s"]


def are_valid_and_hardened():
    faults = [fault for service in SERVICES for fault in stop_is_long_enough(service)]
    if not shutil.which("systemd-analyze"):
        print("SKIPPED: there is no systemd-analyze, so the systemd units were not verified")
        return faults
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for path in sorted((DEPLOY / "systemd").glob("*.service")):
            # The programs are where they were built, not installed.
            text = path.read_text().replace("/usr/local/bin/", f"{TARGET}/debug/")
            copies.append(pathlib.Path(folder) / path.name)
            copies[-1].write_text(text)
        verified = subprocess.run(["systemd-analyze", "verify", "--man=no", *copies], capture_output=True, text=True)
        faults += verified.stderr.splitlines()
        for copy in copies:
            judged = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager",
                                     f"--threshold={MOST_EXPOSED}", copy], capture_output=True, text=True)
            if judged.returncode != 0:
                faults.append(f"{copy.name}: {judged.stdout.splitlines()[-1:]} {judged.stderr}")
    return faults

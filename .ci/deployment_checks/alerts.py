"""The alerts, by Prometheus's own tool: each fires when it should, and none in an ordinary hour."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from project import DEPLOY

FOLDER = DEPLOY / "prometheus"


def tested(folder):
    """How the test in a folder ends, and what it prints."""
    ended = subprocess.run([os.environ["PROMTOOL"], "test", "rules", "alerts_test.yaml"], cwd=folder,
                           capture_output=True, text=True)
    return ended.returncode, ended.stdout.splitlines() + ended.stderr.splitlines()


def pass_their_test():
    if not os.environ["PROMTOOL"]:
        print("SKIPPED: there is no promtool, and apt has none, so the test of the alerts was not run")
        return []
    status, faults = tested(FOLDER)
    if status != 0:
        return faults or [f"promtool ended with status {status}"]
    # What it must find: that no alert is there.
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(FOLDER / "alerts_test.yaml", folder)
        (pathlib.Path(folder) / "alerts.yaml").write_text("groups: []\n")
        status, _ = tested(folder)
    return [] if status != 0 else ["promtool finds no fault when there are no alerts"]

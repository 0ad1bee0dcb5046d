"""The image's build: hadolint, and whether cargo finds all that it reads in what .dockerignore lets through. No image is built:
that needs a container engine and compiles everything again; the release workflow does it."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from project import DEPLOY, ROOT

TOOLS = pathlib.Path(os.environ["TOOLS"])
# What other platforms need is not here.
HOST = re.search(r"^host: (.+)$", subprocess.run(["rustc", "-vV"], capture_output=True, text=True).stdout, re.M)[1]
COMMANDS = [["metadata", "--format-version", "1", "--filter-platform", HOST],
            ["clean", "--release", "--dry-run", "-p", "ingest-api"]]


def dockerfile_is_clean():
    ended = subprocess.run([TOOLS / "bin/hadolint", "--no-color", DEPLOY / "Dockerfile"], capture_output=True, text=True)
    return ended.stdout.splitlines() + ended.stderr.splitlines()


def context_is_enough():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    taken = [line.removeprefix("!") for line in lines if line.startswith("!")]
    with tempfile.TemporaryDirectory() as folder:
        for path in taken:
            source, target = ROOT / path, pathlib.Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("target", "node_modules"))
            else:
                shutil.copy(source, target)
        environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
        ended = [subprocess.run(["cargo", *command, "--locked", "--offline"], cwd=folder, capture_output=True, text=True,
                                env=environment) for command in COMMANDS]
    return [one.stderr.strip() for one in ended if one.returncode != 0]

"""Objects that are not Kubernetes' own, by the schemas of their definitions (npm's @kubernetes-models). Fields that a schema
does not have pass: the schemas do not refuse them, and a cluster prunes them."""

import copy
import json
import os
import pathlib
import subprocess

import yaml

from chart import CUSTOM
from project import DEPLOY, render, rendered


def judged(objects):
    script = pathlib.Path(__file__).with_name("customs.mjs")
    output = subprocess.run(["node", script], input=json.dumps(objects), capture_output=True, text=True, check=True)
    return output.stdout.splitlines()


def resources_are_valid():
    if not os.environ["MODELS"]:
        print("SKIPPED: there is no node and npm, so ScaledObject, PodMonitor, PrometheusRule and ExternalSecret were not"
              " validated")
        return []
    objects = [{"from": name, "object": item} for name, made in rendered().items() for item in made
               if item["kind"] in CUSTOM]
    found = {item["object"]["kind"] for item in objects}
    faults = [f"no values file makes a {kind}" for kind in CUSTOM - found]
    example = DEPLOY / "helm/external-secret.example.yaml"
    objects.append({"from": example.name, "object": yaml.safe_load(example.read_text())})
    faults += judged(objects)
    # Faults that it must find.
    broken = copy.deepcopy(objects)
    for item in broken:
        item["object"]["spec"] = {"triggers": 1, "groups": 1, "selector": 1, "data": 1}
    if len(judged(broken)) != len(broken):
        faults.append(f"of {len(broken)} broken objects some pass")
    return faults

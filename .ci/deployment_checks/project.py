"""Where things are, and the chart rendered as Helm renders it."""

import os
import pathlib

import helm_python as helm
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/penstock"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
SERVICES = ["ingest-api", "delivery-worker"]
KEYS = {"ingest-api": "ingestApi", "delivery-worker": "deliveryWorker"}

VALUES_FILES = sorted(CHART.glob("values-*.yaml"))


def values_of(path):
    return yaml.safe_load(path.read_text())


def render(values=None, folder=CHART, **options):
    """The objects that an installation makes."""
    options = {"name": "penstock", "namespace": "penstock", **options}
    with helm.Chart.load(str(folder)) as loaded:
        texts = loaded.render(values or {}, **options)
    documents = [yaml.safe_load_all(text) for name, text in texts.items() if not name.endswith(".txt")]
    return [document for texts in documents for document in texts if document]


def rendered():
    """What each values file is rendered to, and the defaults."""
    found = {"values.yaml": render()}
    for path in VALUES_FILES:
        found[path.name] = render(values_of(path))
    return found


def of_kind(objects, kind, component=None):
    found = [item for item in objects if item["kind"] == kind]
    if component:
        label = "app.kubernetes.io/component"
        found = [item for item in found if item["metadata"]["labels"].get(label) == component]
    return found


def pods(objects):
    """Name and spec of what Deployments and Jobs run."""
    for item in objects:
        if item["kind"] in ("Deployment", "Job"):
            yield item["metadata"]["name"], item["spec"]["template"]["spec"]

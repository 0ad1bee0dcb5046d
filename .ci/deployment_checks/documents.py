"""The runbook has a heading for each alert, the chart has the alerts, and everything is of one version."""

import re

import yaml

from project import CHART, DEPLOY, ROOT, of_kind, render, rendered

ALERTS = DEPLOY / "prometheus/alerts.yaml"


def anchor(heading):
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def headings(path):
    lines = path.read_text().splitlines()
    return {anchor(line.lstrip("#").strip()) for line in lines if re.match("#+ ", line)}


def alerts_are_the_charts_and_have_runbooks():
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    rule = of_kind(render({"monitoring": {"prometheusRule": {"enabled": True}}}), "PrometheusRule")
    faults = [] if [item["spec"]["groups"] for item in rule] == [groups] else ["the chart has other alerts"]
    for alert in [rule for group in groups for rule in group["rules"]]:
        document, _, wanted = alert["annotations"].get("runbook", "").partition("#")
        path = ROOT / document
        if not document or not path.is_file() or wanted not in headings(path):
            faults.append(f"{alert['alert']}: no runbook, or none with this heading: {document}#{wanted}")
    return faults


def documents_name_what_the_chart_makes():
    made = {(item["kind"].lower(), item["metadata"]["name"]) for objects in rendered().values() for item in objects}
    faults, seen = [], 0
    for path in [DEPLOY / "README.md", *DEPLOY.glob("runbook/*.md"), CHART / "README.md"]:
        for kind, name in re.findall(r"\b(deployment|scaledobject)[/ ]([a-z-]+)", path.read_text()):
            seen += 1
            if (kind, name) not in made:
                faults.append(f"{path.name}: the chart makes no {kind} {name}")
    return faults if seen > 5 else ["the documents name nothing"]


def backlog_query_names_what_is_exported():
    (scaled,) = of_kind(render({"deliveryWorker": {"autoscaling": {"by": "keda"}}}), "ScaledObject")
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    words = set(re.findall(r"\b[a-z_]+\b", re.sub(r"\{[^}]*\}|by \([^)]*\)", "", query))) - {"max", "sum"}
    described = "".join(path.read_text() for path in ROOT.glob("*/src/**/metric_names.rs"))
    faults = [f"nothing exports {word}" for word in words if f'"{word}"' not in described]
    return faults if words else [f"no metric in {query}"]


def documents_name_metrics_that_are_exported():
    """In documents, alerts' texts and values; what `metrics-process` describes is exported too."""
    described = "".join(path.read_text() for path in ROOT.glob("*/src/**/metric_names.rs"))
    files = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *DEPLOY.glob("runbook/*.md"), *DEPLOY.glob("prometheus/*.yaml"),
             *CHART.glob("*.yaml"), *CHART.glob("*.md")]
    faults, seen = [], 0
    for path in files:
        # Without `penstock_event_stream_*`, which stands for several.
        for name in set(re.findall(r"\bpenstock_[a-z0-9_]*[a-z0-9]\b", path.read_text())):
            seen += 1
            metric = re.sub(r"_(bucket|sum|count)$", "", name)
            if f'"{metric}"' not in described and not name.startswith("penstock_process_"):
                faults.append(f"{path.relative_to(ROOT)}: nothing exports {name}")
    return faults if seen > 50 else [f"only {seen} metrics are named"]


def versions_are_one():
    version = re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    found = {"version": chart["version"], "appVersion": chart["appVersion"]}
    faults = [f"Chart.yaml: {key} is {value}, the project's is {version}" for key, value in found.items()
              if value != version]
    (compiler,) = re.findall("FROM rust:([0-9.]+)", (DEPLOY / "Dockerfile").read_text())
    for workflow in ROOT.glob(".github/workflows/*.yaml"):
        given = yaml.safe_load(workflow.read_text())["env"]["RUST_VERSION"]
        if given != compiler:
            faults.append(f"{workflow.name} has Rust {given}, the Dockerfile {compiler}")
    changes = (DEPLOY / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## \[([^\]]+)\]", changes, re.MULTILINE)
    if not sections or sections[0] != "Unreleased" and sections[0] != version:
        faults.append(f"CHANGELOG.md begins with {sections[:1]}, neither Unreleased nor {version}")
    return faults

"""The chart's variables are the services' settings: by their own --help, and by starting them."""

import json
import os
import re
import subprocess

from project import CHART, KEYS, SERVICES, TARGET, of_kind, pods, rendered

# Where the services listen is the chart's.
CHARTS_OWN = {"LISTEN_ADDR", "ADMIN_LISTEN_ADDR", "METRICS_ADDR"}
# Times from which the chart computes the grace period.
TIMES = {"STOP_DELAY", "DRAIN_TIMEOUT", "PUBLISH_TIMEOUT"}
# How long a replica of ingest-api may take for its last saves, and how much longer than a stop the grace period is.
LAST_SAVES, MARGIN = 2, 5
SCHEMA = CHART / "values.schema.json"
# An address that no machine has: a service that reads all its settings ends when it tries to listen there.
NOBODYS = "192.0.2.1:1"


def program(service):
    return TARGET / "debug" / service


def variables(service):
    """Each variable of a service with its default, in its own words."""
    text = subprocess.run([program(service), "--help"], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"\[env: ([A-Z_]+)=?\](?:\s+\[default: ([^\]]*)\])?", text)
    assert len(found) > 10, f"{service} --help lists variables"
    return dict(found)


def is_file(name):
    return name.endswith("_FILE") or name == "NATS_CREDENTIALS"


def is_secret(name):
    """Whether it comes from the Secret and may not stand in the values."""
    return not is_file(name) and re.search("SECRET|TOKEN|PASSWORD|API_KEY_CHECKS|_HEADERS$|_PROXY$|(?<!PUBLIC)_URL$", name) is not None


def with_settings(schema):
    """The chart's schema with the services' variables, each in its place."""
    definitions = schema["$defs"]
    files = set()
    for service in SERVICES:
        names = sorted(set(variables(service)) - CHARTS_OWN)
        settings = [name for name in names if not is_file(name) and not is_secret(name)]
        definitions[f"{KEYS[service]}Settings"]["properties"] = {
            name: {"$ref": f"#/$defs/{'time' if name in TIMES else 'setting'}"} for name in settings}
        definitions[f"{KEYS[service]}SecretKeys"]["items"]["enum"] = [name for name in names if is_secret(name)]
        files |= {name for name in names if is_file(name)}
    definitions["secretFiles"]["properties"] = {name: {"$ref": "#/$defs/secretKey"} for name in sorted(files)}
    return json.dumps(schema, indent=2) + "\n"


def schema_names_every_setting():
    text = SCHEMA.read_text()
    return [] if with_settings(json.loads(text)) == text else ["run `.ci/deployment --update`"]


def update_schema():
    SCHEMA.write_text(with_settings(json.loads(SCHEMA.read_text())))


def environment(pod, service):
    """The variables of a pod; what the Secret holds is made up."""
    secret = {"DATABASE_URL": "postgres://127.0.0.1:1/penstock", "NATS_URL": "nats://127.0.0.1:1",
              "SECRETS_KEY": "A" * 43 + "=", "ADMIN_TOKEN": "t" * 32}
    (container,) = pod["containers"]
    assert container["name"] == service
    return {entry["name"]: entry.get("value") or secret[entry["name"]] for entry in container["env"]}


def services_start_with_the_charts_variables():
    faults = []
    for values, objects in rendered().items():
        for service in SERVICES:
            (pod,) = [pod for name, pod in pods(objects) if name == f"penstock-{service}"]
            given = environment(pod, service)
            faults += [f"{values}: {service} has no {name}" for name in set(given) - set(variables(service))]
            # The last one wins in a pod, as here, so none may stand twice.
            if len(given) != len(pod["containers"][0]["env"]):
                faults.append(f"{values}: {service} gets a variable twice")
            ended = subprocess.run([program(service)], env={**given, "METRICS_ADDR": NOBODYS}, capture_output=True,
                                   text=True, timeout=20)
            if NOBODYS not in ended.stderr:
                faults.append(f"{values}: {service}: status {ended.returncode}: {ended.stderr.strip()}")
    return faults


def seconds(text):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|s|m|h)", text))


def grace_periods_are_longer_than_a_stop():
    faults = []
    for values, objects in rendered().items():
        for service in SERVICES:
            (pod,) = [pod for name, pod in pods(objects) if name == f"penstock-{service}"]
            times = {**variables(service), **environment(pod, service)}
            names = TIMES if service == "ingest-api" else {"DRAIN_TIMEOUT"}
            stop = sum(seconds(times[name]) for name in names) + (LAST_SAVES if service == "ingest-api" else 0)
            grace = pod["terminationGracePeriodSeconds"]
            if grace < stop + MARGIN:
                faults.append(f"{values}: {service}: {grace} s for a stop of up to {stop} s")
    return faults


def port(address):
    return int(address.rsplit(":", 1)[1])


def ports_are_those_of_the_services():
    faults = []
    for values, objects in rendered().items():
        for service in SERVICES:
            (pod,) = [pod for name, pod in pods(objects) if name == f"penstock-{service}"]
            known = {**variables(service), **environment(pod, service)}
            wanted = {"operations": port(known["METRICS_ADDR"])}
            if service == "ingest-api":
                wanted |= {"http": port(known["LISTEN_ADDR"]), "admin": port(known["ADMIN_LISTEN_ADDR"])}
            (container,) = pod["containers"]
            given = {entry["name"]: entry["containerPort"] for entry in container["ports"]}
            if given != wanted:
                faults.append(f"{values}: {service}: {given} for {wanted}")
            for probe, path in [("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")]:
                if container[probe]["httpGet"] != {"path": path, "port": "operations"}:
                    faults.append(f"{values}: {service}: {probe}")
        for monitor in of_kind(objects, "PodMonitor"):
            if monitor["spec"]["podMetricsEndpoints"][0]["port"] != "operations":
                faults.append(f"{values}: the PodMonitor has another port")
            # The alerts go by the job's name, which is the component's.
            if monitor["spec"]["jobLabel"] != "app.kubernetes.io/component":
                faults.append(f"{values}: the PodMonitor gives other jobs' names")
    return faults

"""The chart: Helm's own lint, the strict schema of values, Kubernetes' schemas, and what the values files promise."""

import copy
import pathlib
import shutil
import tempfile

import helm_python as helm
import kubernetes_validate

from project import CHART, KEYS, VALUES_FILES, of_kind, pods, render, rendered, values_of

# The oldest release that Chart.yaml allows and that can be checked, and the newest.
KUBERNETES = ["1.27", kubernetes_validate.latest_version()]
CUSTOM = {"ScaledObject", "PodMonitor", "PrometheusRule"}


def lints():
    faults = []
    for path in [None, *VALUES_FILES]:
        report = helm.lint(str(CHART), values_of(path) if path else {}, strict=True)
        faults += report["errors"]
        faults += [f"{path}: {message['error']}" for message in report["messages"] if message["severity"] >= 2]
    return faults


# Each is refused, with a message that has the words.
WRONG_VALUES = {
    "ingestAPI": ({"ingestAPI": {}}, ["ingestAPI"]),
    "an unknown setting": ({"ingestApi": {"settings": {"DRAIN_TIMOUT": "9s"}}}, ["settings", "DRAIN_TIMOUT"]),
    "a setting of the other service": ({"deliveryWorker": {"settings": {"STOP_DELAY": "5s"}}}, ["STOP_DELAY"]),
    "a secret in the values": ({"ingestApi": {"settings": {"SECRETS_KEY": "x"}}}, ["SECRETS_KEY"]),
    "a worker with the admin's token": ({"deliveryWorker": {"secretKeys": ["ADMIN_TOKEN"]}}, ["secretKeys"]),
    "a file that nothing reads": ({"secret": {"files": {"NATS_CREDS": "nats.creds"}}}, ["NATS_CREDS"]),
    "a number for a time": ({"ingestApi": {"settings": {"DRAIN_TIMEOUT": 25}}}, ["DRAIN_TIMEOUT"]),
    "a time without a unit": ({"deliveryWorker": {"settings": {"DRAIN_TIMEOUT": "25"}}}, ["DRAIN_TIMEOUT"]),
    "no worker by CPU": ({"deliveryWorker": {"autoscaling": {"minReplicas": 0}}}, ["minReplicas"]),
    "an unknown autoscaler": ({"deliveryWorker": {"autoscaling": {"by": "hpa"}}}, ["autoscaling", "by"]),
    "an ingress without a host": ({"ingestApi": {"ingress": {"enabled": True}}}, ["host"]),
    "a bundle from nowhere": ({"authorities": {"bundle": "all.pem"}}, ["configMap"]),
    "a rule that lets workers reach everything": ({"networkPolicy": {"workers": {"egress": [{}]}}}, ["egress"]),
    "half a digest": ({"deliveryWorker": {"image": {"digest": "sha256:12"}}}, ["digest"]),
}


def wrong_values_are_refused():
    faults = []
    for name, (values, words) in WRONG_VALUES.items():
        try:
            render(values)
            faults.append(f"{name} is taken")
        except helm.HelmError as error:
            faults += [f"{name}: {error} does not name {word}" for word in words if word not in str(error)]
    return faults


def manifests_are_valid():
    faults = []
    for values, objects in rendered().items():
        for item in objects:
            if item["kind"] in CUSTOM:
                continue
            for version in KUBERNETES:
                try:
                    kubernetes_validate.validate(item, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    faults.append(f"{values}: {item['kind']} {item['metadata']['name']}: {error.message}")
    # A fault that it must find.
    broken = copy.deepcopy(of_kind(render(), "Service")[0])
    broken["spec"]["prots"] = broken["spec"].pop("ports")
    try:
        kubernetes_validate.validate(broken, KUBERNETES[-1], strict=True)
        faults.append("the validator takes a Service with a misspelt field")
    except kubernetes_validate.ValidationError:
        pass
    return faults


def every_pod_is_contained():
    faults = []
    for values, objects in rendered().items():
        for name, pod in pods(objects):
            wanted = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
            if not wanted.items() <= pod["securityContext"].items():
                faults.append(f"{values}: {name}: {pod['securityContext']}")
            if pod["automountServiceAccountToken"] is not False or pod["enableServiceLinks"] is not False:
                faults.append(f"{values}: {name} gets a token or the Services' addresses")
            for container in pod["containers"]:
                if container["securityContext"] != {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }:
                    faults.append(f"{values}: {name}: {container['securityContext']}")
                if "memory" not in container["resources"]["limits"]:
                    faults.append(f"{values}: {name} has no limit of memory")
    return faults


def kinds(objects):
    return {(item["kind"], item["metadata"]["name"].removeprefix("penstock-")) for item in objects}


def values_files_do_what_they_say():
    found = rendered()
    small, cluster = found["values-small.yaml"], found["values-cluster.yaml"]
    to_zero = found["values-scale-to-zero.yaml"]
    faults = []

    def expect(condition, what):
        if not condition:
            faults.append(what)

    expect(not of_kind(small, "HorizontalPodAutoscaler"), "small has an autoscaler")
    replicas = [item["spec"]["replicas"] for item in of_kind(small, "Deployment")]
    expect(replicas == [1, 1], f"small has {replicas} replicas")
    for name, objects in found.items():
        for item in of_kind(objects, "Deployment"):
            scaled = {scaler["spec"]["scaleTargetRef"]["name"] for kind in ("HorizontalPodAutoscaler", "ScaledObject")
                      for scaler in of_kind(objects, kind)}
            own = item["metadata"]["name"] in scaled
            expect(own != ("replicas" in item["spec"]), f"{name}: {item['metadata']['name']}: who sets replicas?")
    expect({("Ingress", "ingest-api"), ("NetworkPolicy", "webhooks"), ("PodMonitor", "penstock"),
            ("PrometheusRule", "penstock")} <= kinds(cluster), "cluster lacks objects")
    tls = of_kind(cluster, "Ingress")[0]["spec"]["tls"]
    expect(tls == [{"hosts": ["events.example.com"], "secretName": "penstock-ingest-api-tls"}], f"TLS: {tls}")
    (scaled,) = of_kind(to_zero, "ScaledObject")
    expect(scaled["spec"]["minReplicaCount"] == 0, "scale-to-zero does not scale to zero")
    scalers = of_kind(to_zero, "HorizontalPodAutoscaler", "delivery-worker")
    expect(not scalers, "KEDA's workers have a second autoscaler")
    saturation = {"ingestApi": {"autoscaling": {"saturation": {"metric": "penstock_ingest_saturation"}}}}
    (scaler,) = of_kind(render(saturation), "HorizontalPodAutoscaler", "ingest-api")
    expect([metric["type"] for metric in scaler["spec"]["metrics"]] == ["Resource", "Pods"], "no signal of saturation")
    for job in of_kind(cluster, "Job"):
        hooks = job["metadata"]["annotations"]
        expect(hooks["helm.sh/hook"] == "pre-install,pre-upgrade", "the migration is no hook of Helm")
        expect(hooks["argocd.argoproj.io/hook"] == "PreSync", "the migration is no hook of Argo CD")
    waves = {item["metadata"]["labels"]["app.kubernetes.io/component"]:
             int(item["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]) for item in of_kind(cluster, "Deployment")}
    expect(waves["delivery-worker"] < waves["ingest-api"], f"Argo CD's waves are {waves}")
    mounted = render({"secret": {"files": {"NATS_CREDENTIALS": "nats.creds"}}, "authorities": {"configMap": "own"}})
    for name, pod in pods(mounted):
        (container,) = pod["containers"]
        path = {"name": "NATS_CREDENTIALS", "value": "/etc/penstock/secret/nats.creds"}
        expect(path in container["env"] and len(container["volumeMounts"]) == 2 == len(pod["volumes"]), f"{name}: files")
    number = {"ingestApi": {"settings": {"EVENT_STREAM_MAX_BYTES": 1073741824}}}
    (pod,) = [pod for name, pod in pods(render(number)) if name == "penstock-ingest-api"]
    expect({"name": "EVENT_STREAM_MAX_BYTES", "value": "1073741824"} in pod["containers"][0]["env"], "1e+09")
    return faults


def workers_alone_reach_what_they_are_told():
    """A proxy of a private network, which the policy for webhooks keeps them from otherwise."""
    faults = []
    proxy = {"to": [{"ipBlock": {"cidr": "10.0.0.9/32"}}], "ports": [{"protocol": "TCP", "port": 3128}]}
    for rules in [[], [proxy]]:
        values = {"networkPolicy": {"enabled": True, "workers": {"egress": rules}}}
        for item in of_kind(render(values), "NetworkPolicy"):
            for version in KUBERNETES:
                kubernetes_validate.validate(item, version, strict=True)
            name, egress = item["metadata"]["name"], item["spec"].get("egress", [])
            if (proxy in egress) != (rules == [proxy] and name == "penstock-webhooks"):
                faults.append(f"with {rules} {name} has {egress}")
    return faults


def settings_are_a_components_own():
    """What is set for one service stands in its pods and in no others, so that a release of one changes one."""
    faults = []
    setting = {"name": "RUST_LOG", "value": "debug"}
    for service, key in KEYS.items():
        for name, pod in pods(render({key: {"settings": {setting["name"]: setting["value"]}}})):
            (container,) = pod["containers"]
            is_set = setting in container["env"]
            if is_set != (name == f"penstock-{service}"):
                faults.append(f"{name} {'has' if is_set else 'lacks'} what is set for {service}")
    return faults


def the_package_is_the_chart():
    """What a release pushes: the alerts in it are a link in the repository."""
    values = values_of(CHART / "values-cluster.yaml")
    with tempfile.TemporaryDirectory() as folder:
        package = helm.package(str(CHART), destination=folder)
        faults = [] if render(values, package) == render(values) else ["the package is rendered otherwise"]
        with helm.Chart.load(package) as loaded:
            names = {item["name"] for item in loaded.files}
    missing = {path.name for path in VALUES_FILES} - names
    return faults + [f"the package lacks {name}" for name in missing]


def worker(image, generation=2, observed=2, **status):
    numbers = {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, **status}
    return {
        "metadata": {"name": "penstock-delivery-worker", "generation": generation},
        "spec": {"replicas": 3, "template": {"spec": {"containers": [{"image": image}]}}},
        "status": {"observedGeneration": observed, **numbers},
    }


# What runs (ingest-api's image, the workers' Deployment), the images that are wanted, and words of the refusal.
ORDERS = {
    "the workers are new": ("api:1", worker("worker:2"), "api:2", "worker:2", None),
    "only the workers change": ("api:1", worker("worker:1"), "api:1", "worker:2", None),
    "only settings change": ("api:1", worker("worker:1"), "api:1", "worker:1", None),
    "both at once": ("r:5000/api:1", worker("worker:1"), "api:2", "worker:2", "--set ingestApi.image.tag=1 --wait"),
    "both by digest": ("api@sha256:ab", worker("worker:1"), "api:2", "worker:2", "digest=sha256:ab"),
    "not yet observed": ("api:1", worker("worker:2", observed=1), "api:2", "worker:2", "rollout"),
    "some are new": ("api:1", worker("worker:2", updatedReplicas=2), "api:2", "worker:2", "rollout"),
    "an old one ends": ("api:1", worker("worker:2", replicas=4), "api:2", "worker:2", "rollout"),
    "none is ready": ("api:1", worker("worker:2", readyReplicas=0), "api:2", "worker:2", "rollout"),
    "back: the API first": ("api:2", worker("worker:2"), "api:1", "worker:2", None),
    "no worker runs before": ("api:1", {}, "api:2", "worker:2", None),
}


def api(image):
    return {"spec": {"template": {"spec": {"containers": [{"image": image}]}}}}


def copied_into(folder):
    """A chart that takes other values too."""
    copied = pathlib.Path(folder) / "penstock"
    shutil.copytree(CHART, copied)
    (copied / "values.schema.json").unlink()
    return copied


def an_upgrade_takes_the_workers_first():
    """The decision alone, on what `lookup` would find: it finds nothing where no cluster is."""
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        copied = copied_into(folder)
        (copied / "templates/decision.yaml").write_text(
            'decision: {{ include "penstock.workersFirst" .Values.decide | trim | quote }}\n'
            "kind: Decision\n"
        )
        for name, (image, live, wanted_api, wanted_worker, refusal) in ORDERS.items():
            decide = {"api": api(image), "worker": live, "apiImage": wanted_api, "workerImage": wanted_worker}
            (found,) = of_kind(render({"decide": decide}, copied), "Decision")
            reason = found["decision"]
            if bool(reason) != bool(refusal) or (refusal and refusal not in reason):
                faults.append(f"{name}: {reason!r}")
    if not render(is_upgrade=True, is_install=False):
        faults.append("an upgrade renders nothing")
    return faults


def an_upgrade_asks_what_runs():
    """That the decision is asked for, with workers whose rollout is not done in place of what `lookup` finds."""
    (new,) = of_kind(render(), "Deployment", "delivery-worker")
    image = new["spec"]["template"]["spec"]["containers"][0]["image"]
    running = {"penstock-ingest-api": api("api:1"), "penstock-delivery-worker": worker(image, readyReplicas=0)}
    upgrade = {"is_upgrade": True, "is_install": False}
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        copied = copied_into(folder)
        template = copied / "templates/ingest-api/deployment.yaml"
        text = template.read_text()
        template.write_text(text.replace('lookup "apps/v1" "Deployment" .Release.Namespace', "get .Values.running"))
        for name, values, options, is_refused in [
            ("an upgrade before its time", {}, upgrade, True),
            ("an upgrade that may be early", {"workersFirst": False}, upgrade, False),
            ("an installation", {}, {}, False),
        ]:
            try:
                render({"running": running, **values}, copied, **options)
                if is_refused:
                    faults.append(f"{name} is taken")
            except helm.HelmError as error:
                if not is_refused or "rollout" not in str(error):
                    faults.append(f"{name}: {error}")
    return faults

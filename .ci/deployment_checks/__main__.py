"""Checks of what operators deploy with. Each is a function that returns what is wrong, as lines; see .ci/deployment."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import alerts
import chart
import customs
import documents
import image
import linters
import settings
import units

CHECKS = [
    settings.schema_names_every_setting,
    chart.lints,
    chart.wrong_values_are_refused,
    chart.manifests_are_valid,
    chart.every_pod_is_contained,
    chart.values_files_do_what_they_say,
    chart.workers_alone_reach_what_they_are_told,
    chart.settings_are_a_components_own,
    chart.the_package_is_the_chart,
    chart.an_upgrade_takes_the_workers_first,
    chart.an_upgrade_asks_what_runs,
    customs.resources_are_valid,
    settings.services_start_with_the_charts_variables,
    settings.grace_periods_are_longer_than_a_stop,
    settings.ports_are_those_of_the_services,
    documents.alerts_are_the_charts_and_have_runbooks,
    documents.documents_name_what_the_chart_makes,
    documents.backlog_query_names_what_is_exported,
    documents.documents_name_metrics_that_are_exported,
    documents.versions_are_one,
    units.are_valid_and_hardened,
    image.dockerfile_is_clean,
    image.context_is_enough,
    linters.yaml_is_clean,
    linters.checkov_passes,
    linters.workflows_are_valid,
]

# What other programs do, without the chart: the longest check of all, beside the others.
BESIDE = [alerts.pass_their_test]


def timed(check):
    started = time.monotonic()
    return check(), time.monotonic() - started


def tell(check, faults, seconds):
    name = f"{check.__module__}: {check.__name__.replace('_', ' ')}"
    print(f"{'FAILED' if faults else 'ok'}  {name} ({seconds:.1f} s)", flush=True)
    for fault in faults:
        print(f"    {fault}", flush=True)
    return bool(faults)


def main():
    if sys.argv[1:] == ["--update"]:
        settings.update_schema()
        return
    with ThreadPoolExecutor() as beside:
        running = [(check, beside.submit(timed, check)) for check in BESIDE]
        failed = sum(tell(check, *timed(check)) for check in CHECKS)
        failed += sum(tell(check, *ending.result()) for check, ending in running)
    print(f"{len(CHECKS) + len(BESIDE) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()

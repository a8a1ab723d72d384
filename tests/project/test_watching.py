"""What deploy/ has for Prometheus and Grafana, and docs/operations.rst, know the metrics that
there are, and the values of their labels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import yaml

from kinto_attachment import metrics
from kinto_attachment.commands import textfile
from kinto_attachment.errors import reasons
from kinto_attachment.metrics import Metric
from kinto_attachment.storage.observed import OPERATIONS

CHECKOUT = Path(__file__).parents[2]
PROMETHEUS = CHECKOUT / "deploy" / "prometheus"
OPERATIONS_RST = CHECKOUT / "docs" / "operations.rst"
GRAFANA = CHECKOUT / "deploy" / "grafana" / "kinto-attachment.json"

# What Kinto's plugin makes of a key, on a server with the default prefix.
SUFFIXES = {
    "counter": ["_total"],
    "seconds": ["_bucket", "_count", "_sum"],
    "observed": ["_count", "_sum"],
}
# node_exporter's, blackbox_exporter's, Prometheus' own.
OF_OTHERS = {
    *("node_filesystem_avail_bytes", "node_filesystem_size_bytes"),
    *("probe_success", "up", "ALERTS"),
}


def series_of(metric: Metric) -> list[str]:
    """The names of its series in Prometheus."""
    name = f"kinto_{metric.key.replace('.', '_')}"
    return [name + suffix for suffix in SUFFIXES[metric.kind]]


def values_of(metric: Metric) -> set[str]:
    if metric is metrics.STORAGE_SECONDS:
        return set(OPERATIONS)
    return set(reasons()) if metric is metrics.REFUSALS else set(metric.values)


def labels() -> dict[str, dict[str, set[str]]]:
    """The labels of each series of the plugin, with their values."""
    found: dict[str, dict[str, set[str]]] = {}
    for metric in metrics.METRICS:
        own = {} if metric.label is None else {metric.label: values_of(metric)}
        found.update(dict.fromkeys(series_of(metric), own))
    commands = {"command": set(textfile.GAUGES)}
    found.update(dict.fromkeys(textfile.METRICS, commands))
    for gauges in textfile.GAUGES.values():
        found.update({gauge.name: {gauge.label: set(gauge.of)} for gauge in gauges})
    return found


LABELS = labels()


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


def queries() -> Iterator[tuple[str, str]]:
    """What Prometheus is asked, and where."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in json.loads(GRAFANA.read_text())["panels"]:
        for target in panel["targets"]:
            # Grafana fills in its variables first.
            yield panel["title"], target["expr"].replace("$instance", "a|b")
    for query in re.findall(r"``((?:sum|max)\([^`]+)``", OPERATIONS_RST.read_text()):
        yield OPERATIONS_RST.name, query
    for test in yaml.safe_load((PROMETHEUS / "alerts-test.yml").read_text())["tests"]:
        for series in test["input_series"]:
            yield test["name"], series["series"]
        for asked in test["promql_expr_test"]:
            yield test["name"], asked["expr"]


def selectors(node: Any) -> Iterator[promql.VectorSelector]:
    """All that a query selects."""
    if isinstance(node, promql.VectorSelector):
        yield node
        return
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        if hasattr(node, name):
            yield from selectors(getattr(node, name))
    for argument in getattr(node, "args", ()):
        yield from selectors(argument)


def unknown_in(query: str) -> Iterator[str]:
    """What a query asks for that there is not."""
    for selector in selectors(promql.parse(query)):
        known = LABELS.get(selector.name)
        if known is None:
            if selector.name not in OF_OTHERS:
                yield selector.name
            continue
        for matcher in selector.matchers.matchers:
            if matcher.name in ("instance", "le"):
                continue
            values = set(matcher.value.split("|"))
            if not values <= known.get(matcher.name, set()):
                yield f"{selector.name}: {matcher.name} {matcher.value}"


def test_queries_ask_for_what_there_is():
    unknown = {f"{where}: {name}" for where, query in queries() for name in unknown_in(query)}

    assert unknown == set()


def test_every_metric_is_on_the_dashboard():
    text = GRAFANA.read_text()
    shown = {name for name in LABELS if re.search(rf"\b{name}\b", text)}

    for metric in metrics.METRICS:
        assert shown.intersection(series_of(metric)), metric.key
    assert shown >= set(textfile.METRICS)


def test_every_panel_has_a_place_of_its_own():
    places = [panel["gridPos"] for panel in json.loads(GRAFANA.read_text())["panels"]]
    taken = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


def test_every_alert_says_what_to_do_and_is_tried():
    tried = (PROMETHEUS / "alerts-test.yml").read_text()

    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert {"summary", "description"} == set(rule["annotations"])
        assert f'alertname="{rule["alert"]}"' in tried, rule["alert"]


def test_prometheus_reads_what_the_alerts_ask_for():
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())

    assert config["rule_files"] == ["alerts.yml"]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    asked = set(re.findall(r'job="([^"]+)"', (PROMETHEUS / "alerts.yml").read_text()))
    assert asked <= set(jobs)
    assert jobs["kinto"]["metrics_path"] == "/v1/__metrics__"


def test_the_documentation_has_a_row_for_every_metric():
    text = OPERATIONS_RST.read_text()
    rows = set(re.findall(r"^   \* - ``(kinto_attachments_\w+)``", text, re.M))

    own = {f"kinto_{metric.key.replace('.', '_')}" for metric in metrics.METRICS}
    counters = {name for name in own if f"{name}_total" in LABELS}
    assert rows == {f"{name}_total" for name in counters} | (own - counters) | {*textfile.METRICS}


def test_the_documentation_has_every_value_of_a_label():
    text = OPERATIONS_RST.read_text()
    values = {
        value
        for labels in LABELS.values()
        for label, values in labels.items()
        if label != "reason"
        for value in values
    }

    assert {value for value in values if f"``{value}``" not in text} == set()

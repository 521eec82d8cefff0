"""What Prometheus scrapes and keeps, and which Prometheus Grafana shows."""

import pytest
import yaml

from testing.charts import Refused


@pytest.mark.parametrize(
    ("given", "namespaces"), [((), None), (("--set", "prometheus.applicationNamespaces={shop,mail}"), ["shop", "mail"])]
)
def test_only_the_named_namespaces_are_scraped(charts, given, namespaces):
    made = charts.one(charts.render("dev", *given), "ConfigMap", "prometheus")["data"]["prometheus.yml"]
    (job,) = [j for j in yaml.safe_load(made)["scrape_configs"] if j["job_name"] == "applications"]
    (found,) = job["kubernetes_sd_configs"]
    assert (found["role"], found.get("namespaces", {}).get("names")) == ("pod", namespaces)


@pytest.mark.parametrize(("size", "kept"), [("8Gi", "6554MB"), ("500Mi", "400MB"), ("1.5Ti", "1258291MB")])
def test_samples_go_before_the_volume_is_full(charts, size, kept):
    objects = charts.render("dev", "--set", f"prometheus.persistence.size={size}")
    (c,) = charts.one(objects, "StatefulSet", "prometheus")["spec"]["template"]["spec"]["containers"]
    assert f"--storage.tsdb.retention.size={kept}" in c["command"]


def test_grafana_shows_a_prometheus_that_is_there(charts):
    elsewhere = "prometheus.enabled=false,prometheus.external.url=http://p.example:9090"
    with pytest.raises(Refused, match=r"set grafana.prometheusUrl=http://p.example:9090 or grafana.enabled=false"):
        charts.text("dev", "--set", elsewhere)
    charts.render("dev", "--set", f"{elsewhere},grafana.enabled=false")
    objects = charts.render("dev", "--set", f"{elsewhere},grafana.prometheusUrl=http://p.example:9090")
    sources = yaml.safe_load(charts.one(objects, "ConfigMap", "grafana")["data"]["datasources.yaml"])
    assert sources["datasources"][0]["url"] == "http://p.example:9090"

"""What is rendered for an application is valid where it goes: the workflow by GitHub's schema, the chart by helm."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from playbook.trouble import Trouble
from playbook.wiring.application import application
from playbook.wiring.delivery import workflow
from playbook.wiring.skeleton import chart, filled
from playbook.wiring.written import write

APP = application("shop", "dev", "retail")


@pytest.fixture
def flows(tmp_path):
    write(tmp_path, workflow(APP))
    return {p.name: p for p in (tmp_path / ".github" / "workflows").iterdir()}


def test_the_workflows_fit_githubs_schema(flows):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", "-o", "json"]
    ran = subprocess.run([*command, *map(str, flows.values())], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert json.loads(ran.stdout)["status"] == "ok"


def test_a_workflow_with_a_misspelt_key_does_not_fit(flows, tmp_path):
    broken = tmp_path / "broken.yml"
    broken.write_text(flows["shop.yml"].read_text().replace("runs-on:", "run-on:"))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(broken)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_every_environment_goes_through_one_gate_in_order(flows):
    jobs = yaml.safe_load(flows["shop.yml"].read_text())["jobs"]
    deploys = {name: job for name, job in jobs.items() if name != "build"}
    assert {job["uses"] for job in deploys.values()} == {"./.github/workflows/shop-deploy.yml"}
    assert [(n, j["with"]["environment"]) for n, j in deploys.items()] == [(n, n) for n in ("dev", "staging", "prod")]
    assert {j["with"]["digest"] for j in deploys.values()} == {"${{ needs.build.outputs.digest }}"}
    assert "dev" in deploys["staging"]["needs"] and "staging" in deploys["prod"]["needs"]


def test_every_needed_job_output_and_input_exists(flows):
    jobs = yaml.safe_load(flows["shop.yml"].read_text())["jobs"]
    called = yaml.safe_load(flows["shop-deploy.yml"].read_text())[True]["workflow_call"]["inputs"]  # `on` reads as True
    for job in jobs.values():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(jobs)
        assert set(job.get("with", {})) in (set(), set(called))
        for name, key in re.findall(r"needs\.(\w+)\.outputs\.(\w+)", json.dumps(job)):
            assert key in jobs[name]["outputs"]


def test_the_gate_verifies_the_application_and_keeps_the_report(flows):
    steps = yaml.safe_load(flows["shop-deploy.yml"].read_text())["jobs"]["deploy"]["steps"]
    order = [s.get("name", s.get("uses")) for s in steps]
    assert order.index("Upgrade") < order.index("Verify") < order.index("Keep the report")
    assert next(s for s in steps if s.get("name") == "Verify")["run"] == "sfmctl verify shop --junit verify.xml"


def test_no_script_has_a_value_pasted_into_it(flows):
    for path in flows.values():
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job.get("steps", []):
                assert "${{" not in step.get("run", ""), step["name"]


def test_the_chart_reads_what_the_wire_up_made():
    files = {str(path): text for path, text in chart(APP).items()}
    values = yaml.safe_load(files["values.yaml"])
    assert (values["serviceAccount"], values["settings"], values["runtimeSecret"]) == (
        "shop-sa", "shop-settings", "shop-runtime",
    )  # fmt: skip
    assert yaml.safe_load(files["Chart.yaml"])["name"] == "shop"
    assert not [text for text in files.values() if re.search(r"@[A-Z]+@", text)]


def test_a_placeholder_that_nothing_stands_for_is_an_error():
    with pytest.raises(KeyError):
        filled("name: @NOTHING@", {"APP": "shop"})


def test_what_a_person_changed_is_not_written_over_unasked(tmp_path):
    files = chart(APP)
    assert {what for _, what in write(tmp_path, files)} == {"made"}
    assert {what for _, what in write(tmp_path, files)} == {"kept"}
    (tmp_path / "values.yaml").write_text("mine: true\n")
    (tmp_path / "Chart.yaml").unlink()
    with pytest.raises(Trouble) as refused:
        write(tmp_path, files)
    assert refused.value.code == "SFM-APP-012" and "values.yaml" in refused.value.why
    assert not (tmp_path / "Chart.yaml").exists()
    assert dict(write(tmp_path, files, force=True))["values.yaml"] == "replaced"

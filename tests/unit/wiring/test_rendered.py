"""What is rendered for an application is valid where it goes: the workflow by GitHub's schema, the chart by helm."""

import json
import re
import subprocess
import sys
from importlib.metadata import version

import pytest
import typer
import yaml

from playbook.target import MODES
from playbook.trouble import Trouble
from playbook.wiring.application import application
from playbook.wiring.delivery import workflow
from playbook.wiring.skeleton import chart, filled
from playbook.wiring.written import write
from sfmctl import app
from sfmctl.app import build
from testing.commandline import parsed

APP = application("shop", "dev", "retail")


@pytest.fixture
def flows(tmp_path):
    write(tmp_path, workflow(APP, MODES))
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
    assert [(n, j["with"]["environment"]) for n, j in deploys.items()] == [(n, n) for n in MODES]
    assert {j["with"]["digest"] for j in deploys.values()} == {"${{ needs.build.outputs.digest }}"}
    assert [job["needs"] for job in deploys.values()] == [["build"], *(["build", before] for before in MODES[:-1])]


def test_only_the_environments_that_were_asked_for_are_delivered_to(tmp_path, capsys):
    assert app.run(["cd", "render", "shop", "-e", "test", "-e", "prod-lite", "--out", str(tmp_path)]) == 0
    rendered = tmp_path / ".github" / "workflows" / "shop.yml"
    assert list(yaml.safe_load(rendered.read_text())["jobs"]) == ["build", "test", "prod-lite"]
    assert app.run(["cd", "render", "shop", "--out", str(tmp_path), "--force"]) == 0
    assert list(yaml.safe_load(rendered.read_text())["jobs"]) == ["build", "dev", "staging", "prod"]
    assert app.run(["cd", "render", "shop", "-e", "preprod", "--out", str(tmp_path)]) == 2
    assert "SFM-CLI-020" in capsys.readouterr().err


def script(flows, words: str) -> str:
    """The one script of the deploy job that has these words in its name or text."""
    deploy = yaml.safe_load(flows["shop-deploy.yml"].read_text())["jobs"]["deploy"]
    [found] = [s["run"] for s in deploy["steps"] if "run" in s and words in s.get("name", "") + s["run"]]
    return found


@pytest.mark.parametrize("lacking", ["", "SFM_CONTEXT", "SFM_SFMCTL_IMAGE"])
def test_a_pipeline_that_names_no_cluster_or_no_image_stops_and_says_so(flows, lacking):
    given = {"SFM_CONTEXT": "platform-staging", "SFM_SFMCTL_IMAGE": "registry.example/sfmctl@sha256:00"}
    ran = subprocess.run(["bash", "-ec", script(flows, "are named")], env=given | ({lacking: ""} if lacking else {}),
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert ran.returncode == bool(lacking)
    assert ("::error::" in ran.stdout) == bool(lacking)


@pytest.mark.parametrize("given", ["", "soma-fractal-memory[client,cluster] @ https://files.example/s.whl#sha256=00"])
def test_what_is_installed_is_named_exactly_and_can_be_pinned(flows, given):
    shown = script(flows, "pip install").replace("python -m pip install", "printf %s")
    ran = subprocess.run(
        ["bash", "-ec", shown], env={"SFMCTL_PACKAGE": given}, capture_output=True, text=True, check=True
    )
    assert ran.stdout == (given or f"soma-fractal-memory[client,cluster]=={version('soma-fractal-memory')}")


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
    run = next(s for s in steps if s.get("name") == "Verify")["run"]
    assert run == "sfmctl verify shop --namespace retail --junit verify.xml"


def test_no_script_has_a_value_pasted_into_it(flows):
    for path in flows.values():
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job.get("steps", []):
                assert "${{" not in step.get("run", ""), step["name"]


def steps_of(flows):
    """Every step, with the parsed workflow and the job that it is in."""
    for path in flows.values():
        flow = yaml.safe_load(path.read_text())
        for job in flow["jobs"].values():
            for step in job.get("steps", []):
                yield flow, job, step


def test_every_script_is_one_that_a_shell_can_read(flows):
    scripts = [step["run"] for _, _, step in steps_of(flows) if "run" in step]
    assert len(scripts) >= 7
    for script in scripts:
        ran = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{script}\n{ran.stderr}"


def test_every_variable_of_a_script_is_given_to_it(flows):
    given_by_the_runner = {"GITHUB_OUTPUT"}
    for _, job, step in steps_of(flows):
        script = step.get("run", "")
        used = set(re.findall(r"\$\{?([A-Za-z_]+)", script))
        made = set(re.findall(r"^\s*([a-z_]+)=", script, re.MULTILINE))
        assert used <= {*job.get("env", {}), *step.get("env", {}), *made, *given_by_the_runner}, step["name"]


def test_every_command_of_ours_exists_with_its_options(flows, monkeypatch):
    for name in ("SFM_ENV", "SFM_CONTEXT", "SFM_SFMCTL_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    lines = [line.strip() for _, _, step in steps_of(flows) for line in step.get("run", "").splitlines()]
    found = {tuple(path): params for path, params in (parsed(line) for line in lines if line.startswith("sfmctl "))}
    assert set(found) == {("app", "wire"), ("verify",)}
    assert all((p["name"], p["namespace"]) == ("shop", "retail") for p in found.values())


def test_the_environment_of_the_job_is_what_our_commands_read(flows):
    deploy = yaml.safe_load(flows["shop-deploy.yml"].read_text())["jobs"]["deploy"]
    tree = typer.main.get_command(build())
    for path in (("app", "wire"), ("verify",)):
        node = tree
        for name in path:
            node = node.commands[name]
        read = {p.envvar for p in node.params if p.envvar}
        assert {"SFM_ENV", "SFM_CONTEXT", "SFM_SFMCTL_IMAGE"} <= read & set(deploy["env"]), path


CONTEXTS = {"inputs", "needs", "steps", "secrets", "vars", "github"}
GITHUB = {"token", "actor", "repository", "sha", "workspace"}


def test_every_expression_names_something_that_is_there(flows):
    seen = 0
    for path in flows.values():
        flow = yaml.safe_load(path.read_text())
        called = (flow[True].get("workflow_call") or {}).get("inputs", {})  # `on` reads as True
        for job in flow["jobs"].values():
            ids = {step["id"] for step in job.get("steps", []) if "id" in step}
            for inside in re.findall(r"\$\{\{(.*?)\}\}", json.dumps(job)):
                words = inside.strip().split(".")
                assert words[0] in CONTEXTS, inside
                seen += 1
                known = {
                    "inputs": lambda w, c=called: w[1] in c,
                    "github": lambda w: w[1] in GITHUB,
                    "steps": lambda w, i=ids: w[1] in i and w[2] == "outputs",
                    "needs": lambda w, f=flow, j=job: w[1] in j["needs"] and w[3] in f["jobs"][w[1]]["outputs"],
                }.get(words[0], lambda w: len(w) == 2)
                assert known(words), inside
    assert seen >= 15


def test_what_a_step_puts_out_is_written_by_it(flows):
    for _, job, step in steps_of(flows):
        if "id" in step:
            wanted = re.findall(rf"steps\.{step['id']}\.outputs\.(\w+)", json.dumps(job["outputs"]))
            assert wanted and all(f"{name}=" in step["run"] and "$GITHUB_OUTPUT" in step["run"] for name in wanted)


@pytest.mark.parametrize(
    ("right", "wrong", "caught"),
    [("needs.build.outputs.digest", "needs.build.outputs.sum", "expression"),
     ("inputs.digest", "inputs.checksum", "expression"),
     ("--junit verify.xml", "--junit-xml verify.xml", "command"),
     ('printf \'%s\' "$GIVEN"', 'printf \'%s "$GIVEN"', "shell"),
     ("GIVEN: ${{", "GAVE: ${{", "variable")],
)  # fmt: skip
def test_each_of_these_checks_can_fail(flows, monkeypatch, right, wrong, caught):
    changed = 0
    for path in flows.values():
        changed += right in path.read_text()
        path.write_text(path.read_text().replace(right, wrong))
    assert changed
    one = {"expression": lambda: test_every_expression_names_something_that_is_there(flows),
           "command": lambda: test_every_command_of_ours_exists_with_its_options(flows, monkeypatch),
           "shell": lambda: test_every_script_is_one_that_a_shell_can_read(flows),
           "variable": lambda: test_every_variable_of_a_script_is_given_to_it(flows)}[caught]  # fmt: skip
    with pytest.raises((AssertionError, KeyError)):
        one()


def test_the_chart_reads_what_the_wire_up_made():
    files = {str(path): text for path, text in chart(APP).items()}
    values = yaml.safe_load(files["values.yaml"])
    assert (values["serviceAccount"], values["settings"], values["runtimeSecret"]) == (
        "shop-sa", "shop-settings", "shop-runtime",
    )  # fmt: skip
    assert yaml.safe_load(files["Chart.yaml"])["name"] == "shop"
    assert not [text for text in files.values() if re.search(r"@[A-Z]+@", text)]


@pytest.mark.parametrize("given", [[], ["--set", "imagePullSecrets[0].name=registry"]])
def test_the_chart_names_the_secrets_of_a_private_registry_where_there_are_any(tmp_path, given):
    write(tmp_path, chart(APP))
    ran = subprocess.run(
        ["helm", "template", "shop", str(tmp_path), *given], capture_output=True, text=True, check=True
    )
    [deployment] = [one for one in yaml.safe_load_all(ran.stdout) if one["kind"] == "Deployment"]
    wanted = [{"name": "registry"}] if given else None
    assert deployment["spec"]["template"]["spec"].get("imagePullSecrets") == wanted


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

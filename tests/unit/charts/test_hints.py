"""A hint that names a Deployment where the charts make a StatefulSet helps nobody."""

import re

from playbook.load import packaged

NAMED = re.compile(r"\b(deployment|statefulset)/(sharedinfra-[a-z-]+)")


def test_every_workload_that_the_book_names_in_a_command_is_one_of_the_charts(charts):
    made = {(o["kind"].lower(), o["metadata"]["name"]) for o in charts.render("prod")}
    named = {found for code in packaged().codes.values() for found in NAMED.findall(code.mend)}
    assert len(named) >= 8
    assert named <= made

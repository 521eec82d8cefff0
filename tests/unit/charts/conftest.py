"""The charts, built once for all tests here. Without helm nothing can be said about them, and the skip says so."""

import shutil

import pytest

from testing.charts import Charts


@pytest.fixture(scope="session")
def charts(tmp_path_factory) -> Charts:
    if shutil.which("helm") is None:
        pytest.skip("helm is not installed: the charts were NOT checked (https://helm.sh/docs/intro/install)")
    return Charts.build(tmp_path_factory.mktemp("charts"))

"""The charts, built once for all tests here."""

import pytest

from testing.charts import Charts


@pytest.fixture(scope="session")
def charts(helm: str, tmp_path_factory: pytest.TempPathFactory) -> Charts:
    return Charts.build(tmp_path_factory.mktemp("charts"))

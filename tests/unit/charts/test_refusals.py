"""Values that render but cannot work in a cluster are refused, with the reason and what to set instead."""

import pytest

from testing.charts import Refused


@pytest.mark.parametrize("mode", ["staging", "prod"])
def test_several_postgres_nodes_need_something_that_leads_to_the_primary(charts, mode):
    with pytest.raises(Refused, match="without Pgpool nothing leads to the primary"):
        charts.text(mode, "--set", "pgpool.enabled=false")
    given = "pgpool.enabled=false,pgpool.external.host=pool.example"
    ends = charts.one(charts.render(mode, "--set", given), "ConfigMap", "endpoints")["data"]
    assert ends["POSTGRES_HOST"] == "pool.example"
    charts.render(mode, "--set", "pgpool.enabled=false,global.postgresNodes=1,postgres.synchronousStandbys=0")

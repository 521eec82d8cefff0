"""What the infrastructure publishes in mode dev and in mode staging, as the chart renders it."""

import pytest

from playbook.wiring.endpoints import Endpoints

SUFFIX = ".soma-infra.svc.cluster.local"
DEV = {
    "SOMA_INFRA_MODE": "dev",
    "TLS_ENABLED": "false",
    "POSTGRES_HOST": f"sharedinfra-postgres-pgpool{SUFFIX}",
    "POSTGRES_PORT": "5432",
    "POSTGRES_SSLMODE": "disable",
    "REDIS_HOST": f"sharedinfra-redis-master{SUFFIX}",
    "REDIS_PORT": "6379",
    "REDIS_URL": f"redis://sharedinfra-redis-master{SUFFIX}:6379",
    "KAFKA_BOOTSTRAP_SERVERS": f"sharedinfra-kafka{SUFFIX}:9092",
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_TOPIC_PARTITIONS": "3",
    "KAFKA_TOPIC_RETENTION_HOURS": "72",
    "KAFKA_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_TOPIC_MIN_INSYNC_REPLICAS": "1",
    "VAULT_ADDR": f"http://sharedinfra-vault{SUFFIX}:8200",
    "OPA_URL": f"http://sharedinfra-opa{SUFFIX}:8181",
}
STAGING = {
    **DEV,
    "SOMA_INFRA_MODE": "staging",
    "TLS_ENABLED": "true",
    "POSTGRES_SSLMODE": "verify-full",
    "REDIS_URL": f"rediss://sharedinfra-redis-master{SUFFIX}:6379",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_TOPIC_PARTITIONS": "6",
    "KAFKA_TOPIC_REPLICATION_FACTOR": "3",
    "KAFKA_TOPIC_MIN_INSYNC_REPLICAS": "2",
    "VAULT_ADDR": f"https://sharedinfra-vault{SUFFIX}:8200",
}


@pytest.fixture
def dev() -> Endpoints:
    return Endpoints(DEV, "soma-infra")


@pytest.fixture
def staging() -> Endpoints:
    return Endpoints(STAGING, "soma-infra", ca="-----BEGIN CERTIFICATE-----\n")

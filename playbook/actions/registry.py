"""Every action and probe that the book may name: one line each, imported only when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from playbook.trouble import Trouble

ACTIONS: Mapping[str, str] = {
    "kind.create": "playbook.actions.kind:create",
    "kind.remove": "playbook.actions.kind:remove",
    "images.build": "playbook.actions.images:build",
    "images.preload": "playbook.actions.images:preload",
    "kube.namespace": "playbook.actions.kube:ensure_namespace",
    "kube.delete_namespace": "playbook.actions.kube:delete_namespace",
    "helm.upgrade": "playbook.actions.helm:upgrade",
    "helm.free": "playbook.actions.helm:free",
    "helm.clear": "playbook.actions.helm:clear",
    "helm.uninstall": "playbook.actions.helm:uninstall",
    "helm.rollback": "playbook.actions.helm:rollback",
    "workloads.wait": "playbook.actions.waiting:wait_ready",
    "vault.enable": "playbook.actions.vault_auth:enable",
    "compose.reset": "playbook.actions.compose:reset",
    "jobs.build": "playbook.wiring.image:build",
    "app.image": "playbook.wiring.image:supply",
    "app.namespace": "playbook.wiring.work:apply_namespace",
    "app.account": "playbook.wiring.work:apply_account",
    "app.mounts": "playbook.wiring.work:apply_mounts",
    "app.policy": "playbook.wiring.work:apply_policy",
    "app.role": "playbook.wiring.work:apply_role",
    "app.secrets": "playbook.wiring.work:apply_secrets",
    "app.settings": "playbook.wiring.work:apply_settings",
    "app.store": "playbook.wiring.work:apply_store",
    "app.runtime": "playbook.wiring.work:apply_runtime",
    "app.database": "playbook.wiring.work:apply_database",
    "app.redis": "playbook.wiring.work:apply_redis",
    "app.kafka": "playbook.wiring.work:apply_kafka",
    "app.topics": "playbook.wiring.work:apply_topics",
    "app.lock_database": "playbook.wiring.work:lock_database",
    "app.erase_database": "playbook.wiring.work:erase_database",
    "app.remove_redis": "playbook.wiring.work:remove_redis",
    "app.erase_redis": "playbook.wiring.work:erase_redis",
    "app.remove_kafka": "playbook.wiring.work:remove_kafka",
    "app.erase_topics": "playbook.wiring.work:erase_topics",
    "app.release_namespace": "playbook.wiring.work:release_namespace",
    "app.remove_account": "playbook.wiring.work:remove_account",
    "app.remove_settings": "playbook.wiring.work:remove_settings",
    "app.remove_runtime": "playbook.wiring.work:remove_runtime",
    "app.remove_vault_access": "playbook.wiring.work:remove_vault_access",
    "app.remove_secrets": "playbook.wiring.work:remove_secrets",
}

PROBES: Mapping[str, str] = {
    "tool": "playbook.actions.tools:probe",
    "docker": "playbook.actions.docker:probe",
    "api": "playbook.actions.kube:probe_api",
    "nodes": "playbook.actions.kube:probe_nodes",
    "storage": "playbook.actions.kube:probe_storage",
    "namespace": "playbook.actions.kube:probe_namespace",
    "release": "playbook.actions.helm:probe_release",
    "release.live": "playbook.actions.drift:probe",
    "images": "playbook.actions.images:probe_nodes",
    "images.running": "playbook.actions.running_images:probe",
    "pods": "playbook.actions.workloads:probe_ready",
    "restarts": "playbook.actions.workloads:probe_restarts",
    "claims": "playbook.actions.workloads:probe_claims",
    "postgres.nodes": "playbook.actions.postgres:nodes",
    "postgres.pgpool": "playbook.actions.postgres:pgpool",
    "kafka": "playbook.actions.servers:kafka",
    "redis": "playbook.actions.servers:redis",
    "vault": "playbook.actions.servers:vault",
    "vault.auth": "playbook.actions.vault_auth:probe",
    "opa": "playbook.actions.servers:opa",
    "etcd": "playbook.actions.servers:etcd",
    "prometheus": "playbook.actions.servers:prometheus",
    "grafana": "playbook.actions.servers:grafana",
    "app.env": "playbook.wiring.checks:env",
    "app.namespace": "playbook.wiring.checks:namespace",
    "app.settings": "playbook.wiring.checks:settings",
    "app.secrets": "playbook.wiring.checks:secrets",
    "app.pods": "playbook.wiring.checks:pods",
    "app.inside": "playbook.wiring.checks:inside",
    "app.asked": "playbook.wiring.checks:found_inside",
}


def found(kind: str, table: Mapping[str, str], name: str) -> Any:
    """The function that `table` has under `name`."""
    if name not in table:
        raise Trouble("SFM-BOOK-003", f"the book names the {kind} {name!r}, which this program does not have")
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)


def action(name: str) -> Any:
    """The action of that name: `action(hands, params) -> what was done`."""
    return found("action", ACTIONS, name)


def probe(name: str) -> Any:
    """The probe of that name: `probe(probe, params) -> (status, observed[, code[, mending command]])`."""
    return found("probe", PROBES, name)

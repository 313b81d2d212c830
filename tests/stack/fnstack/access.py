"""Gives the principals under test exactly the rights of the role that is shipped."""
from __future__ import annotations

import copy
from pathlib import Path

from .kube import KINDS, Kube, Object, load_documents

# The shipped role, once the repository has one; else the harness's own equal.
SHIPPED = Path("config/deploy/rbac.yaml")
# What diagnosing and mending needs beyond it.
MENDING = (Path("config/deploy/rbac-doctor.yaml"), Path("config/deploy/rbac-fix.yaml"))
OWN = Path(__file__).resolve().parent.parent / "rbac.yaml"


def role_file(repository: Path, given: Path | None) -> Path:
    if given:
        return given
    shipped = repository / SHIPPED
    return shipped if shipped.exists() else OWN


def grant(kube: Kube, file: Path, group: str, without: tuple[str, str] | None = None) -> None:
    """Applies the file's roles and binds `group` where the file binds its own subjects.

    `without` is a (verb, resource) that is left out of copies made for this group:
    the way to see what a missing permission looks like.
    """
    documents = [d for d in load_documents(file) if d["kind"] in KINDS]
    suffix = "" if without is None else "-" + group.replace(":", "-")
    roles = [_without(d, without, suffix) for d in documents if d["kind"] in ("Role", "ClusterRole")]
    others = [d for d in documents if d["kind"] in ("Namespace", "ServiceAccount")]
    for document in [*others, *roles]:
        if document["kind"] in ("Role", "ServiceAccount"):
            document["metadata"].setdefault("namespace", "kube-system")
        kube.apply(document)
    bindings = [d for d in documents if d["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    if not bindings:
        bindings = [_binding_of(role, suffix) for role in roles]
    for binding in bindings:
        mine = copy.deepcopy(binding)
        if mine["kind"] == "RoleBinding":
            mine["metadata"].setdefault("namespace", "kube-system")
        mine["metadata"]["name"] += "-" + group.replace(":", "-")
        mine["metadata"].pop("labels", None)
        if not mine["roleRef"]["name"].endswith(suffix):
            mine["roleRef"]["name"] += suffix
        mine["subjects"] = [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group}]
        kube.apply(mine)


def _without(role: Object, without: tuple[str, str] | None, suffix: str) -> Object:
    if without is None:
        return role
    verb, resource = without
    changed = copy.deepcopy(role)
    changed["metadata"]["name"] += suffix
    rules = []
    for rule in changed.get("rules", []):
        if resource not in rule.get("resources", []):
            rules.append(rule)
            continue
        rest = [r for r in rule["resources"] if r != resource]
        if rest:
            rules.append({**rule, "resources": rest})
        verbs = [v for v in rule["verbs"] if v != verb]
        if verbs and "*" not in rule["verbs"]:
            rules.append({**rule, "resources": [resource], "verbs": verbs})
    changed["rules"] = rules
    return changed


def _binding_of(role: Object, suffix: str) -> Object:
    name = role["metadata"]["name"]
    body: Object = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": role["kind"] + "Binding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": name},
    }
    if role["kind"] == "Role":
        body["metadata"]["namespace"] = role["metadata"]["namespace"]
    return body

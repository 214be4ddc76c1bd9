"""Files with accounts in a format that another tool requires: Ansible's example vault, dbt's grants. GENERATED.

Pure, except that it reads the dbt project: one line there is generated, the rest is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from data_platform_core.access.matrix import SERVICES_FILE, Matrix
from data_platform_core.access.names import BROKER, REPLICATOR
from data_platform_core.access.postgres import marts_readers, roles
from data_platform_core.errors import ConfigurationError
from data_platform_core.generated.inventory import INVENTORIES_DIR
from data_platform_core.paths import DBT_DIR

VAULT_EXAMPLE: Path = INVENTORIES_DIR / "home" / "group_vars" / "all" / "vault.example.yml"
DBT_PROJECT_FILE: Path = DBT_DIR / "dbt_project.yml"

_SOURCE = f"data-platform-core/src/{SERVICES_FILE.relative_to(SERVICES_FILE.parents[2]).as_posix()}"
#: Marks the one line of dbt_project.yml that is generated from the matrix.
_MARK: Final = f"# The next line is GENERATED from {_SOURCE}."
_PLACEHOLDER: Final = "CHANGE_ME"


def account_files(matrix: Matrix) -> dict[Path, str]:
    """The text of each generated file, by path."""
    return {
        VAULT_EXAMPLE: vault_example(matrix),
        DBT_PROJECT_FILE: dbt_project(DBT_PROJECT_FILE.read_text(encoding="utf-8"), matrix),
    }


def dbt_project(text: str, matrix: Matrix) -> str:
    """`text` of dbt_project.yml with the matrix's grants on marts."""
    grants = f"select: [{', '.join(marts_readers(matrix))}]"
    written, marks = re.subn(rf"^( *){re.escape(_MARK)}\n.*$", rf"\1{_MARK}\n\1{grants}", text, flags=re.MULTILINE)
    if marks != 1:
        raise ConfigurationError(f"{DBT_PROJECT_FILE} must have the line `{_MARK}` once, above the grants on marts")
    return written


def vault_example(matrix: Matrix) -> str:
    """Every secret that the playbooks need, as a YAML file of placeholders."""
    return f"""---
# GENERATED from {_SOURCE}; change that file, then `make generate`.
# Every secret of home, as a placeholder. Copy, fill in, encrypt; vault.yml is ignored by git:
#   cp vault.example.yml vault.yml
#   for a password: openssl rand -hex 24        (letters, digits, `-` and `_` only, 16 or more)
#   ansible-vault encrypt vault.yml
# then run playbooks with --ask-vault-pass or --vault-password-file.

# Proxmox: Datacenter > Permissions > API Tokens; docs of the role proxmox_vm name the privileges.
vault_proxmox_api_user: automation@pve
vault_proxmox_api_token_id: ansible
vault_proxmox_api_token_secret: {_PLACEHOLDER}

# A password per Kafka principal; `{BROKER}` is the brokers' own.
vault_kafka_passwords:
{_placeholders((BROKER, *matrix.kafka))}

# A password per role of PostgreSQL; `{REPLICATOR}` is the replica's.
vault_postgres_passwords:
{_placeholders((*roles(matrix), REPLICATOR))}

vault_redis_password: {_PLACEHOLDER}

# The object store's own account, and one per service.
vault_object_store_root_password: {_PLACEHOLDER}
vault_object_store_passwords:
{_placeholders(matrix.object_store)}

# Receivers of alerts. With an empty address, alerts go to the topology's alert sink. The password is that of
# monitoring.mail.user.
vault_alert_receivers:
  slack_url: ""
  webhook_url: ""
  webhook_token: ""
  smtp_password: {_PLACEHOLDER}
"""


def _placeholders(names: Iterable[str]) -> str:
    return "\n".join(f"  {name}: {_PLACEHOLDER}" for name in names)

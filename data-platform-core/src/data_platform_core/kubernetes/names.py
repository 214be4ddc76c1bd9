"""Names, labels and places that manifests, chart and images share."""

from __future__ import annotations

from typing import Final

from data_platform_core import __version__
from data_platform_core.jobs import Job, Kind
from data_platform_core.topology.cluster import Kubernetes

#: Our own labels; a node's or a person's tools never set them.
SERVICE_LABEL: Final = "crm.platform/service"
ENVIRONMENT_LABEL: Final = "crm.platform/environment"
PART_OF: Final = {"app.kubernetes.io/part-of": "crm-platform"}

#: Objects that services share.
TOPOLOGY: Final = "crm-topology"
AUTHORITY: Final = "crm-authority"
AUTHORITY_KEY: Final = "ca.crt"
#: Executors call nobody but their driver and the stores: their account has no rights.
EXECUTOR_ACCOUNT: Final = "crm-executor"

#: Priority classes (home-server-infra/kubernetes/base): a driver comes before what serves it, executors come last.
DRIVER_PRIORITY: Final = "crm-driver"
EXECUTOR_PRIORITY: Final = "crm-executor"
SERVICE_PRIORITY: Final = "crm-service"
JOB_PRIORITY: Final = "crm-job"

#: Layout of our images (data-platform-core/docker): a test compares it with the Dockerfiles.
HOME: Final = "/opt/crm/home"
STATE: Final = "/var/lib/crm"
SCRATCH: Final = "/tmp"
PROGRAMS: Final = "/opt/crm/bin"
PKI: Final = "/etc/crm/pki"
USER_ID: Final = 10001
#: Folder of an image's Dockerfile; its name is the folder's with `crm-` before it.
_FOLDERS: Final = {Kind.SPARK: "spark", Kind.PROCESS: "jobs"}


def image(kubernetes: Kubernetes, kind: Kind) -> str:
    """The image that jobs of `kind` run in, of this version of the platform."""
    return f"{kubernetes.images.prefix}/crm-{_FOLDERS[kind]}:{__version__}"


def images(kubernetes: Kubernetes) -> dict[str, str]:
    """Every image by the folder of its Dockerfile, below data-platform-core/docker."""
    return {folder: image(kubernetes, kind) for kind, folder in _FOLDERS.items()}


def labels(job: Job) -> dict[str, str]:
    """Labels of what runs `job`."""
    return {"app.kubernetes.io/name": job.name, **PART_OF, SERVICE_LABEL: job.service}

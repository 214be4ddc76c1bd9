"""The platform's own images for the node: built by buildah from the Dockerfiles over a base of this machine's making.

The base stands for `debian:bookworm-slim`, which no registry gives here. It trusts the authorities that this machine
trusts and fetches packages as this machine does, so that a build reaches what the machine reaches.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from data_platform_core.commands import call
from data_platform_core.kubernetes.names import images
from data_platform_core.paths import REPOSITORY_ROOT
from infra_lab.kubernetes.build import Progress, ensure, watched
from infra_lab.kubernetes.images import base_image
from infra_lab.kubernetes.layout import ENVIRONMENT, Layout, platform, stack_topology
from infra_lab.kubernetes.node import Node

_BASE = "localhost/lab-base:1"
_BUILDER = REPOSITORY_ROOT / "data-platform-core" / "docker" / "build.sh"
#: Where Debian keeps authorities that an administrator has added, and all of them in one file.
_AUTHORITIES = Path("/usr/local/share/ca-certificates")
_ALL_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
#: Parts of apt's configuration that say how it fetches.
_APT_SETTINGS = ("Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until")
#: In a container, or without a login session, only chroot needs no privilege that the machine may lack.
_ISOLATION = {"BUILDAH_ISOLATION": "chroot"}


def ensure_platform_images(layout: Layout, node: Node, progress: Progress) -> None:
    """Build what changed and import it. Raises ServiceError with the end of the builder's log."""
    _ensure_base(layout, progress)
    command = ["sh", str(_BUILDER), ENVIRONMENT, "--layers", "--build-arg", f"BASE={_BASE}"]
    watched(layout, "platform images", command, progress, environment=_ISOLATION)
    for name in images(platform(stack_topology())).values():
        progress(f"{name} into containerd")
        with tempfile.TemporaryDirectory(dir=layout.root) as folder:
            archive = Path(folder) / "image.tar"
            call(["buildah", "push", "--quiet", name, f"oci-archive:{archive}:{name}"])
            node.import_archive(archive)


def _ensure_base(layout: Layout, progress: Progress) -> None:
    tarball = base_image(layout, progress)

    def there() -> bool:
        return _BASE in call(["buildah", "images", "--format", "{{.Name}}:{{.Tag}}"]).split()

    def make() -> None:
        progress(f"base image of the builder, {_BASE}")
        _make_base(layout, tarball)

    ensure(layout, "builder-base", [tarball.with_suffix(".recipe")], make, there=there)


def _make_base(layout: Layout, tarball: Path) -> None:
    container = call(["buildah", "from", "scratch"]).strip()
    try:
        call(["buildah", "add", "--quiet", container, str(tarball), "/"])
        if _AUTHORITIES.is_dir():
            call(["buildah", "add", "--quiet", container, str(_AUTHORITIES), str(_AUTHORITIES)])
        _copy_apt_settings(layout, container)
        call(["buildah", "run", "--isolation=chroot", container, "--", "update-ca-certificates"])
        variables = [f"--env={name}={_ALL_AUTHORITIES}" for name in ("SSL_CERT_FILE", "PIP_CERT")]
        call(["buildah", "config", *variables, container])
        call(["buildah", "commit", "--quiet", container, _BASE])
    finally:
        call(["buildah", "rm", container])


def _copy_apt_settings(layout: Layout, container: str) -> None:
    """How this machine's apt fetches: proxies, authorities, whether it checks how old an index is."""
    with tempfile.TemporaryDirectory(dir=layout.root) as folder:
        settings = Path(folder) / "99machine"
        dumped = [call(["apt-config", "dump", "--format", '%F "%v";%n', root]) for root in _APT_SETTINGS]
        settings.write_text("".join(dumped), encoding="utf-8")
        call(["buildah", "add", "--quiet", container, str(settings), "/etc/apt/apt.conf.d/99machine"])

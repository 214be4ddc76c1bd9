"""Base root file systems: the content of a Proxmox cloud-init template, built once from the machine's own mirror.

The mirror is the one apt is configured for; nothing of it stays in the image. An image lies in the user's cache under
a hash of everything that makes it, so a changed recipe makes a new one and an old checkout still finds its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from data_platform_core.commands import call
from data_platform_core.errors import ConfigurationError
from infra_lab.layout import user_cache

_log = structlog.get_logger(__name__)
_HOOK = Path(__file__).with_name("customize.sh")
#: A cloud image's contents as far as the roles rely on them; `kmod` and `netbase` are in every real one.
PACKAGES = (
    "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "sudo", "python3", "python3-apt", "ca-certificates",
    "iproute2", "iputils-ping", "procps", "kmod", "netbase", "cloud-init", "qemu-guest-agent", "locales", "less", "acl",
    "curl",
)  # fmt: skip
#: Mirrors of a laboratory lag behind: a Release file that has run out must not end a build.
_APT_OPTIONS = (
    'Acquire::Check-Valid-Until "false"',
    'Acquire::Check-Date "false"',
    'Acquire::Languages "none"',
)


@dataclass(frozen=True)
class Recipe:
    """One distribution: `folder` is the last part of its mirror's URI, which the apt cache uses too."""

    name: str
    suite: str
    folder: str
    components: str
    keyring: str
    user: str

    @property
    def updates(self) -> tuple[tuple[str, str], ...]:
        """(folder, suite) of the archives beside the suite's own that a host's sources.list names."""
        if self.folder == "ubuntu":
            return (("ubuntu", f"{self.suite}-updates"), ("ubuntu", f"{self.suite}-security"))
        return (("debian", f"{self.suite}-updates"), ("debian-security", f"{self.suite}-security"))

    def digest(self) -> str:
        """Hash of everything that affects the image."""
        parts = json.dumps([asdict(self), PACKAGES, _APT_OPTIONS], sort_keys=True).encode() + _HOOK.read_bytes()
        return hashlib.sha256(parts).hexdigest()[:16]


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("debian-12", "bookworm", "debian", "main", "/usr/share/keyrings/debian-archive-keyring.gpg", "debian"),
        Recipe(
            "ubuntu-24.04",
            "noble",
            "ubuntu",
            "main,universe",
            "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
            "ubuntu",
        ),
    )
}
#: Used if the machine's apt lacks the topology's distribution.
FALLBACK = "debian-12"


def mirrors() -> dict[str, str]:
    """Folder -> URI of the archives that this machine's apt is configured for, such as `debian`."""
    sites = call(["apt-get", "indextargets", "--format", "$(SITE)"]).split()
    return {site.rstrip("/").rsplit("/", 1)[1]: site.rstrip("/") for site in sorted(set(sites))}


def available() -> dict[str, str | None]:
    """Recipe name -> None if this machine can build it, otherwise the reason why not."""
    known = mirrors()
    return {
        recipe.name: None
        if recipe.folder in known
        else f"this machine's apt knows no archive that ends in /{recipe.folder}"
        for recipe in RECIPES.values()
    }


def chosen_recipe(template: str) -> Recipe:
    """The recipe for a template's name, such as `ubuntu-24.04-cloud`; Debian 12 where this machine can't make that.

    Raises ConfigurationError for a name that begins with no recipe's.
    """
    named = next((recipe for recipe in RECIPES.values() if template.startswith(recipe.name)), None)
    if named is None:
        raise ConfigurationError(
            f"template {template}: the lab has no image of that name; begin it with one of: {', '.join(RECIPES)}"
        )
    return named if available()[named.name] is None else RECIPES[FALLBACK]


def image_path(recipe: Recipe) -> Path:
    """The path of the image, existing or not."""
    return user_cache() / "images" / f"{recipe.name}-{recipe.digest()}"


def ensure_image(recipe: Recipe) -> Path:
    """The image's root, made when it is not there yet (a minute). Raises ConfigurationError when it can't be had."""
    final = image_path(recipe)
    if final.is_dir():
        return final
    mirror = mirrors().get(recipe.folder)
    if mirror is None:
        raise ConfigurationError(
            f"image {recipe.name} can't be made: this machine's apt knows no archive that ends in /{recipe.folder}; "
            "add its source to /etc/apt/sources.list.d, or choose debian-12"
        )
    _build(recipe, mirror, final)
    return final


def _build(recipe: Recipe, mirror: str, final: Path) -> None:
    """Build the image; it gets its name only when it is complete."""
    partial = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    _log.info("image_build", image=recipe.name, path=str(final))
    call(
        [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            f"--components={recipe.components}",
            *(f"--aptopt={option}" for option in _APT_OPTIONS),
            f'--customize-hook=sh {_HOOK} "$1"',
            recipe.suite,
            str(partial),
            mirror,
        ],
        environment={**os.environ, "LC_ALL": "C.UTF-8"},
        timeout_s=1800,
    )
    partial.rename(final)
    _remove_older(recipe, final)


def _remove_older(recipe: Recipe, kept: Path) -> None:
    """Delete images of earlier recipes; a host that runs on one keeps its mount until it stops."""
    for path in kept.parent.glob(f"{recipe.name}-*"):
        if path != kept and not path.name.endswith(".partial") and not _in_use(path):
            shutil.rmtree(path)


def _in_use(path: Path) -> bool:
    return f"lowerdir={path}," in Path("/proc/mounts").read_text(encoding="utf-8")

"""Parameter schemas of the calls, checked like in Proxmox: every wrong one is reported, not only the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from infra_lab.proxmox_api.errors import bad_parameters

Parameters = dict[str, str]
#: Returns the problem of a value, or None.
Check = Callable[[str], str | None]

_UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"
_NO_NETWORK = "invalid format - value does not look like a valid ipv4 network configuration"
_MISSING = "property is missing and it is not optional"
_DNS_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS_NAME = re.compile(rf"^{_DNS_LABEL}(?:\.{_DNS_LABEL})*$")
_STORAGE_ID = re.compile(r"^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]$")
_BOOLEAN = re.compile(r"^(?:0|1|on|off|yes|no|true|false)$", re.IGNORECASE)
_SIZE = re.compile(r"^\+?\d+(?:\.\d+)?[KMGT]?$")
_CIDR = re.compile(r"^\d{1,3}(?:\.\d{1,3}){3}/\d{1,2}$")


def integer(minimum: int, maximum: int | None = None) -> Check:
    """A whole number in bounds."""

    def check(value: str) -> str | None:
        if not re.fullmatch(r"[+-]?\d+", value):
            return f"type check ('integer') failed - got '{value}'"
        if int(value) < minimum:
            return f"value must have a minimum value of {minimum}"
        if maximum is not None and int(value) > maximum:
            return f"value must have a maximum value of {maximum}"
        return None

    return check


def matching(pattern: re.Pattern[str], otherwise: str) -> Check:
    """A value that matches; `otherwise` is Proxmox's error message."""
    return lambda value: None if pattern.match(value) else otherwise


def one_of(*values: str) -> Check:
    """A member of an enumeration."""
    listed = ", ".join(values)
    otherwise = f"does not have a value in the enumeration '{listed}'"
    return lambda value: None if value in values else f"value '{value}' {otherwise}"


def anything(value: str) -> str | None:
    """A string of any form."""
    return None


boolean = matching(_BOOLEAN, "type check ('boolean') failed")
dns_name = matching(_DNS_NAME, "invalid format - value does not look like a valid DNS name")
storage_id = matching(_STORAGE_ID, "invalid format - storage ID contains illegal characters")
vmid = integer(100, 999_999_999)


def _network_card(value: str) -> str | None:
    model = re.match(r"^(?:model=)?(\w+)", value)
    known = ("virtio", "e1000", "e1000e", "rtl8139", "vmxnet3")
    if model is None or model[1] not in known:
        card = value.split(",", maxsplit=1)[0]
        return f"invalid format - format error: net.model: value '{card}' is not a network card"
    tag = re.search(r"(?:^|,)tag=([^,]*)", value)
    if tag and not (tag[1].isdigit() and 1 <= int(tag[1]) <= 4094):
        return "invalid format - format error: net.tag: type check ('integer') failed"
    return None


def _ip_config(value: str) -> str | None:
    for part in value.split(","):
        key, _, text = part.partition("=")
        if key not in ("ip", "gw", "ip6", "gw6"):
            return f"invalid format - format error: {key}: {_UNKNOWN}"
        if key == "ip" and text != "dhcp" and not (_CIDR.match(text) and int(text.rsplit("/", 1)[1]) <= 32):
            return f"invalid format - format error: ip: {_NO_NETWORK}"
    if "gw=" in value and "ip=" not in value:
        return "invalid format - gateway specified without specifying an IPv4 address"
    return None


def _ssh_keys(value: str) -> str | None:
    # The API takes the keys URL-encoded a second time; a plain key is refused.
    return "invalid format - invalid urlencoded string: " + value[:40] if " " in value or not unquote(value) else None


def _tags(value: str) -> str | None:
    bad = [tag for tag in re.split(r"[;, ]+", value) if tag and not re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9_.+-]*", tag)]
    return f"invalid format - value '{bad[0]}' does not look like a valid VM tag" if bad else None


#: Keys of a VM's configuration; names with `\d+` are patterns.
CONFIG: Mapping[str, Check] = {
    "name": dns_name,
    "memory": integer(16),
    "balloon": integer(0),
    "cores": integer(1),
    "sockets": integer(1),
    "vcpus": integer(1),
    "shares": integer(0, 50_000),
    "onboot": boolean,
    "protection": boolean,
    "numa": boolean,
    "kvm": boolean,
    "acpi": boolean,
    "tablet": boolean,
    "autostart": boolean,
    "template": boolean,
    "ciupgrade": boolean,
    "bios": one_of("seabios", "ovmf"),
    "citype": one_of("configdrive2", "nocloud", "opennebula"),
    "ostype": one_of(
        "other", "wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11", "l24", "l26", "solaris",
    ),
    "scsihw": one_of("lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi"),
    "sshkeys": _ssh_keys,
    "tags": _tags,
    "digest": anything,
    "delete": anything,
    r"net\d+": _network_card,
    r"ipconfig\d+": _ip_config,
    r"(?:scsi|virtio|sata|ide)\d+": anything,
    r"(?:serial|usb|hostpci|numa|parallel|unused|efidisk|tpmstate|rng|audio)\d+": anything,
    "|".join((
        "agent", "args", "boot", "bootdisk", "ciuser", "cipassword", "cicustom", "cpu", "cpulimit", "cpuunits",
        "description", "hotplug", "machine", "nameserver", "searchdomain", "smbios1", "startup", "vga", "vmgenid",
        "watchdog", "startdate", "localtime", "freeze", "tdf", "hookscript", "force", "revert", "skiplock", "lock",
    )): anything,
}  # fmt: skip


@dataclass(frozen=True)
class Schema:
    """Parameters of one call; keys of `optional` may be patterns."""

    required: Mapping[str, Check]
    optional: Mapping[str, Check]

    def verify(self, given: Parameters) -> Parameters:
        """The parameters, if all are valid. Raises PveError 400 naming each invalid one."""
        wrong = {name: _MISSING for name in self.required if name not in given}
        for name, value in given.items():
            check = self.required.get(name) or _lookup(self.optional, name)
            complaint = check(value) if check else _UNKNOWN
            if complaint:
                wrong[name] = complaint
        if wrong:
            raise bad_parameters(wrong)
        return given


def _lookup(checks: Mapping[str, Check], name: str) -> Check | None:
    if name in checks:
        return checks[name]
    return next((check for pattern, check in checks.items() if re.fullmatch(pattern, name)), None)


def is_true(value: str | None) -> bool:
    """A boolean in any of Proxmox's spellings."""
    return (value or "0").lower() in ("1", "on", "yes", "true")


_disk = matching(re.compile(r"^(?:scsi|virtio|sata|ide)\d+$"), "value is not a disk of a VM")
_NOTHING: Mapping[str, Check] = {}
UPDATE = Schema(_NOTHING, CONFIG)
CREATE = Schema(
    {"vmid": vmid}, {**CONFIG, "storage": storage_id, "pool": anything, "start": boolean, "unique": boolean}
)
CLONE = Schema(
    {"newid": vmid},
    {
        "name": dns_name, "storage": storage_id, "target": dns_name, "full": boolean, "description": anything,
        "format": one_of("raw", "qcow2", "vmdk"), "pool": anything, "snapname": anything, "bwlimit": integer(0),
    },
)  # fmt: skip
RESIZE = Schema(
    {"disk": _disk, "size": matching(_SIZE, "value does not match the regex pattern")},
    {"digest": anything, "skiplock": boolean},
)
START = Schema(_NOTHING, {"timeout": integer(0), "skiplock": boolean, "machine": anything})
STOP = Schema(_NOTHING, {"timeout": integer(0), "skiplock": boolean, "keepActive": boolean, "forceStop": boolean})
DESTROY = Schema(_NOTHING, {"purge": boolean, "destroy-unreferenced-disks": boolean, "skiplock": boolean})

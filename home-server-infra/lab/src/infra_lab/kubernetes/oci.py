"""OCI images packed from folders, files and tarballs, without a daemon: for the cluster's system images.

A layer is packed the same way each time (sorted, owner root, no times), so what has not changed keeps its digest and is
neither stored nor imported twice. Layers are not compressed: they never leave the machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
#: containerd takes an image's name from this annotation; a tag alone becomes an odd name.
_NAME = "io.containerd.image.name"
_STREAM_BYTES = 1 << 20
_LEFT_OUT = "__pycache__"

Json = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """`source` at `target` of the image; without a target, a tarball that is taken as it is."""

    source: Path
    target: str | None = None


@dataclass(frozen=True)
class Run:
    """How a container starts."""

    entrypoint: tuple[str, ...]
    user: str
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"

    def config(self) -> Json:
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return {"Entrypoint": self.entrypoint, "User": self.user, "Env": variables, "WorkingDir": self.folder}


class Images:
    """The images below `root`: their blobs by digest, and an index with their names."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._index = root / "index.json"
        self._blobs = root / "blobs" / "sha256"

    def digest(self, name: str) -> str | None:
        """Of the image's manifest; None when there is no such image."""
        entry = self._entries().get(name)
        return str(entry["digest"]) if entry else None

    def build(self, name: str, layers: Iterable[Layer], run: Run, base: str | None = None) -> None:
        """Pack `layers` over those of the image `base`. Blobs that no image needs any more are deleted."""
        self._blobs.mkdir(parents=True, exist_ok=True)
        below = self._read(self._entries()[base])["layers"] if base else []
        packed = [*below, *(self._add_layer(layer) for layer in layers)]
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": run.config(),
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in packed]},
        }
        manifest = {
            "schemaVersion": 2, "mediaType": _MANIFEST, "config": self._add_json(config, _CONFIG), "layers": packed,
        }  # fmt: skip
        entries = self._entries() | {name: {**self._add_json(manifest, _MANIFEST), "annotations": {_NAME: name}}}
        self._index.write_text(_index_of(entries.values()), encoding="utf-8")
        self._delete_unused(entries.values())

    def export(self, names: Iterable[str], out: IO[bytes]) -> None:
        """An OCI archive of these images, as `ctr images import` reads it."""
        chosen = [self._entries()[name] for name in names]
        with tarfile.open(fileobj=out, mode="w|", bufsize=_STREAM_BYTES) as tar:
            for file, text in (("oci-layout", '{"imageLayoutVersion":"1.0.0"}'), ("index.json", _index_of(chosen))):
                member = tarfile.TarInfo(file)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
            for blob in dict.fromkeys(blob for entry in chosen for blob in self._tree(entry)):
                tar.add(blob, arcname=f"blobs/sha256/{blob.name}")

    def _entries(self) -> dict[str, Json]:
        """Descriptor of the manifest, by image."""
        if not self._index.is_file():
            return {}
        entries = json.loads(self._index.read_text(encoding="utf-8"))["manifests"]
        return {entry["annotations"][_NAME]: entry for entry in entries}

    def _add_json(self, value: Json, media_type: str) -> Json:
        data = json.dumps(value, sort_keys=True).encode()
        digest = hashlib.sha256(data).hexdigest()
        (self._blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def _add_layer(self, layer: Layer) -> Json:
        partial = self._root / f"{os.getpid()}.partial"
        if layer.target is None:
            shutil.copyfile(layer.source, partial)
        else:
            with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar:
                _pack(tar, layer.source, layer.target.strip("/"))
        with partial.open("rb") as packed:
            digest = hashlib.file_digest(packed, "sha256").hexdigest()
        size = partial.stat().st_size
        partial.replace(self._blobs / digest)
        return {"mediaType": _LAYER, "digest": f"sha256:{digest}", "size": size}

    def _read(self, descriptor: Json) -> Json:
        content: Json = json.loads(self._blob(descriptor).read_text(encoding="utf-8"))
        return content

    def _blob(self, descriptor: Json) -> Path:
        return self._blobs / str(descriptor["digest"]).removeprefix("sha256:")

    def _tree(self, entry: Json) -> list[Path]:
        """The blobs of an image: manifest, config, layers."""
        manifest = self._read(entry)
        return [self._blob(part) for part in (entry, manifest["config"], *manifest["layers"])]

    def _delete_unused(self, entries: Iterable[Json]) -> None:
        used = {blob for entry in entries for blob in self._tree(entry)}
        for blob in set(self._blobs.iterdir()) - used:
            blob.unlink()


def _index_of(entries: Iterable[Json]) -> str:
    return json.dumps({"schemaVersion": 2, "manifests": list(entries)})


def _pack(tar: tarfile.TarFile, source: Path, target: str) -> None:
    """Parents of `target` come with a mode of their own: a runtime's umask must not decide who may enter."""
    parts = target.split("/")
    for depth in range(1, len(parts)):
        parent = tarfile.TarInfo("/".join(parts[:depth]))
        parent.type, parent.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(parent)
    tar.add(source, arcname=target, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """A member without owner and times; compiled Python is left out, since it holds times of its sources."""
    if member.name.rsplit("/", 1)[-1] == _LEFT_OUT:
        return None
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member

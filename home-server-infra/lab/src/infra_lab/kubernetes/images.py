"""The cluster's system images: what holds a pod, DNS, and the operator with the Spark that it submits by.

The platform's own images come from Dockerfiles; these need none, and no builder either.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_platform_core.errors import ConfigurationError
from infra_lab.image import FALLBACK, RECIPES, mirrors
from infra_lab.kubernetes import build
from infra_lab.kubernetes.build import Progress, ensure, operator_version, watched
from infra_lab.kubernetes.layout import SOURCES, Layout
from infra_lab.kubernetes.oci import Images, Layer, Run

#: Spark's own images have this user, and the operator's chart expects it.
SPARK_USER = 185
PI_PROGRAM = "/opt/lab/pi.py"
_FOLDER = SOURCES / "images"
_PYTHON_FOLDER = "/opt/python"
_SPARK_HOME = f"{_PYTHON_FOLDER}/pyspark"
_PATH = f"{_SPARK_HOME}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Of distroless images: nobody, with a number, so that kubelet sees that it is not root.
_NOBODY = "65532:65532"
_BASE_PACKAGES = ("openjdk-17-jre-headless", "python3", "tini", "ca-certificates")
#: Pages and translations are a tenth of the image. The JRE's installation fails without the folder of manual pages.
_BASE_OPTIONS = (
    "--dpkgopt=force-unsafe-io",
    *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")),
    "--aptopt=Acquire::Check-Valid-Until \"false\"",
    "--aptopt=Acquire::Languages \"none\"",
    '--essential-hook=mkdir -p "$1/usr/share/man/man1"',
    # Hadoop asks who it is, and fails for a number without a name.
    f'--customize-hook=echo spark:x:{SPARK_USER}:{SPARK_USER}::/tmp:/usr/sbin/nologin >>"$1/etc/passwd"',
    f'--customize-hook=echo spark:x:{SPARK_USER}: >>"$1/etc/group"',
)  # fmt: skip


@dataclass(frozen=True)
class Image:
    """`name` with the registry that stands for this machine: nothing is pulled."""

    name: str
    tag: str

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.tag}"


def spark_version() -> str:
    """Of the Spark that `make setup` installed, and that goes into the image."""
    return importlib.metadata.version("pyspark")


PAUSE = Image("localhost/lab-pause", "1")
COREDNS = Image("localhost/lab-coredns", build.pinned("cluster", "github.com/coredns/coredns"))
SPARK = Image("localhost/lab-spark", spark_version())
OPERATOR = Image("localhost/lab-spark-operator", operator_version())
SYSTEM_IMAGES = (PAUSE, COREDNS, SPARK, OPERATOR)


def ensure_images(layout: Layout, progress: Progress) -> None:
    """Pack what is missing or was made from something else; the base first (some minutes, once)."""
    images, packer = Images(layout.images), Path(__file__).with_name("oci.py")

    def packed(image: Image, inputs: list[Path], layers: list[Layer], run: Run, base: Image | None = None) -> None:
        def make() -> None:
            progress(f"image {image.reference}")
            images.build(image.reference, layers, run, base.reference if base else None)

        also = f"{image.reference} {run} {base.reference if base else ''}"
        there = partial(_is_packed, images, image)
        ensure(layout, image.name.rpartition("/")[2], [packer, *inputs], make, also, there)

    for image, program in ((PAUSE, build.PAUSE), (COREDNS, build.COREDNS)):
        binary = layout.bin / program.name
        packed(image, [binary], [Layer(binary, f"/{program.name}")], Run((f"/{program.name}",), _NOBODY))
    base = base_image(layout, progress)
    entrypoint, pi = _FOLDER / "entrypoint.sh", _FOLDER / "pi.py"
    layers = [
        Layer(base),
        *(Layer(_package(name), f"{_PYTHON_FOLDER}/{name}") for name in ("pyspark", "py4j")),
        Layer(entrypoint, "/opt/entrypoint.sh"),
        Layer(pi, PI_PROGRAM),
    ]
    packed(SPARK, [base.with_suffix(".recipe"), entrypoint, pi], layers, _spark_run("/opt/entrypoint.sh"))
    operator = layout.bin / build.OPERATOR.name
    run = _spark_run("/usr/bin/tini", "-s", "--", "/usr/bin/spark-operator")
    spark_stamp = layout.stamps / SPARK.name.rpartition("/")[2]
    packed(OPERATOR, [operator, spark_stamp], [Layer(operator, "/usr/bin/spark-operator")], run, SPARK)


def _is_packed(images: Images, image: Image) -> bool:
    return images.digest(image.reference) is not None


def _spark_run(*entrypoint: str) -> Run:
    environment = {
        "PATH": _PATH, "SPARK_HOME": _SPARK_HOME, "PYTHONPATH": _PYTHON_FOLDER, "PYTHONDONTWRITEBYTECODE": "1",
        "JAVA_HOME": "/usr/lib/jvm/java-17-openjdk-amd64", "HOME": "/tmp",
    }  # fmt: skip
    return Run(entrypoint, f"{SPARK_USER}:{SPARK_USER}", environment, "/tmp")


def _package(name: str) -> Path:
    """The folder of an installed package. Its import would start what it starts; finding it does not."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ConfigurationError(f"Python package {name} is not installed here; run `make setup`")
    return Path(found.origin).parent


def base_image(layout: Layout, progress: Progress) -> Path:
    """A Debian with Java and Python as a tarball, and beside it (`.recipe`) what it was made from; made if missing."""
    recipe, base = RECIPES[FALLBACK], layout.cache / "base.tar"
    text = " ".join(["apt", recipe.suite, *_BASE_PACKAGES, *_BASE_OPTIONS])

    def make() -> None:
        progress(f"base image: {recipe.name} with {', '.join(_BASE_PACKAGES)}")
        mirror = mirrors().get(recipe.folder)
        if mirror is None:
            raise ConfigurationError(f"this machine's apt knows no archive that ends in /{recipe.folder}; add one")
        unfinished = base.with_suffix(".partial")
        command = ["nice", "-n", "15", "mmdebstrap", "--mode=root", "--format=tar", "--variant=apt"]
        command += [f"--include={','.join(_BASE_PACKAGES)}", *_BASE_OPTIONS, recipe.suite, str(unfinished), mirror]
        watched(layout, "base image", command, progress)
        unfinished.replace(base)
        base.with_suffix(".recipe").write_text(text, encoding="utf-8")

    ensure(layout, "base", [], make, text, base.is_file)
    return base

"""Kafka in the layout of its official archive, packed from Maven's jars: the archive itself is on no registry.

Scripts are ours and few lines long; names, options and environment are those of the official ones.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_platform_core.commands import call
from data_platform_core.errors import ServiceError
from data_platform_core.paths import REPOSITORY_ROOT
from infra_lab.layout import LAB_DIR

SCALA = "2.13"

#: Script -> its main class, or that class in each line of Kafka that moved it.
TOOLS = {
    "kafka-acls": "kafka.admin.AclCommand org.apache.kafka.tools.AclCommand",
    "kafka-broker-api-versions": "kafka.admin.BrokerApiVersionsCommand org.apache.kafka.tools.BrokerApiVersionsCommand",
    "kafka-cluster": "org.apache.kafka.tools.ClusterTool",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-console-producer": "kafka.tools.ConsoleProducer org.apache.kafka.tools.ConsoleProducer",
    "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-dump-log": "kafka.tools.DumpLogSegments org.apache.kafka.tools.DumpLogSegments",
    "kafka-features": "org.apache.kafka.tools.FeatureCommand",
    "kafka-get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "kafka-leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "kafka-log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "kafka-metadata-quorum": "org.apache.kafka.tools.MetadataQuorumCommand",
    "kafka-producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
    "kafka-reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "kafka-storage": "kafka.tools.StorageTool",
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
}
#: Only in a release line with ZooKeeper.
ZOOKEEPER_TOOLS = {"zookeeper-shell": "org.apache.zookeeper.ZooKeeperMainWithTlsSupportForKafka"}
#: Script -> main class, heap when KAFKA_HEAP_OPTS is not set.
SERVERS = {"kafka-server-start": ("kafka.Kafka", "-Xmx1G -Xms1G")}
ZOOKEEPER_SERVERS = {
    "zookeeper-server-start": ("org.apache.zookeeper.server.quorum.QuorumPeerMain", "-Xmx512M -Xms512M"),
}

_RUN_CLASS = """\
#!/bin/bash
base_dir=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
: "${{LOG_DIR:=$base_dir/logs}}"
: "${{KAFKA_LOG4J_OPTS:={log_option}$base_dir/config/tools-{log_file}}}"
: "${{KAFKA_JVM_PERFORMANCE_OPTS:=-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -Djava.awt.headless=true}}"
java=${{JAVA_HOME:+$JAVA_HOME/bin/}}java
# Options are lists of words.
# shellcheck disable=SC2086
exec "$java" ${{KAFKA_HEAP_OPTS:--Xmx256M}} $KAFKA_JVM_PERFORMANCE_OPTS -Dkafka.logs.dir="$LOG_DIR" $KAFKA_LOG4J_OPTS \\
    $KAFKA_JMX_OPTS $KAFKA_OPTS -cp "$base_dir/libs/*${{CLASSPATH:+:$CLASSPATH}}" "$@"
"""
_TOOL = """\
#!/bin/bash
exec "$(dirname "$(readlink -f "$0")")/kafka-run-class.sh" {main} "$@"
"""
_SERVER = """\
#!/bin/bash
here=$(dirname "$(readlink -f "$0")")
export KAFKA_LOG4J_OPTS="${{KAFKA_LOG4J_OPTS:-{log_option}$here/../config/{log_file}}}"
export KAFKA_HEAP_OPTS="${{KAFKA_HEAP_OPTS:-{heap}}}"
exec "$here/kafka-run-class.sh" {main} "$@"
"""
_LOG4J = """\
log4j.rootLogger={level}, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=[%d] %p %m (%c)%n
log4j.appender.console.Target=System.{stream}
"""
_LOG4J2 = """\
rootLogger.level = {level}
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_{stream}
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
"""


@dataclass(frozen=True)
class Line:
    """One line of Kafka: the pom that pins its version, and how it logs."""

    pom: Path
    profile: str
    log_option: str
    log_file: str
    log_config: str
    zookeeper: bool

    @property
    def version(self) -> str:
        """The version pinned by the pom."""
        pinned = re.search(r"<kafka\.version>([^<]+)<", self.pom.read_text(encoding="utf-8"))
        assert pinned is not None
        return pinned[1]

    @property
    def name(self) -> str:
        return f"kafka_{SCALA}-{self.version}"

    def tools(self) -> dict[str, str]:
        return {**TOOLS, **(ZOOKEEPER_TOOLS if self.zookeeper else {})}

    def servers(self) -> dict[str, tuple[str, str]]:
        return {**SERVERS, **(ZOOKEEPER_SERVERS if self.zookeeper else {})}


#: The embedded stack's line, for KRaft, and the last one with ZooKeeper.
LINES = (
    Line(
        REPOSITORY_ROOT / "home-server-infra" / "local" / "pom.xml", "kafka",
        "-Dlog4j2.configurationFile=", "log4j2.properties", _LOG4J2, zookeeper=False,
    ),
    Line(
        LAB_DIR / "pom.xml", "zookeeper-line",
        "-Dlog4j.configuration=file:", "log4j.properties", _LOG4J, zookeeper=True,
    ),
)  # fmt: skip


def ensure_archive(line: Line, folder: Path, jars: Path) -> Path:
    """`kafka_<scala>-<version>.tgz` with its `.sha512` in `folder`; both are made again when the recipe has changed."""
    archive = folder / f"{line.name}.tgz"
    stamp = folder / f"{line.name}.recipe"
    recipe = hashlib.sha256(line.pom.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    if archive.is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == recipe:
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    here = jars / line.name
    shutil.rmtree(here, ignore_errors=True)
    call(
        [
            "mvn",
            "-B",
            "-q",
            "--strict-checksums",
            "-f",
            str(line.pom),
            f"-P{line.profile}",
            f"-Djars.dir={here}",
            "generate-resources",
        ]
    )
    write_archive(archive, line, sorted(here.glob("*.jar")))
    stamp.write_text(recipe, encoding="utf-8")
    return archive


def write_archive(archive: Path, line: Line, jars: list[Path]) -> None:
    """Deterministic: the same jars give the same bytes (sorted names, no times, no owners).

    Raises ServiceError for a script whose class is in no jar.
    """
    members = sorted(_members(line, jars))
    partial = archive.with_suffix(".partial")
    with (
        partial.open("wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="", compresslevel=1) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for name, mode, content in members:
            entry = tarfile.TarInfo(f"{line.name}/{name}")
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    with partial.open("rb") as written:
        digest = hashlib.file_digest(written, "sha512").hexdigest()
    archive.with_name(f"{archive.name}.sha512").write_text(f"{digest}  {archive.name}\n", encoding="utf-8")
    partial.replace(archive)


def _members(line: Line, jars: list[Path]) -> Iterator[tuple[str, int, bytes]]:
    """Path, mode and content of each file."""
    known = _classes(jars)
    logs = {"log_option": line.log_option, "log_file": line.log_file}
    yield "bin/kafka-run-class.sh", 0o755, _RUN_CLASS.format(**logs).encode()
    for script, mains in line.tools().items():
        yield f"bin/{script}.sh", 0o755, _TOOL.format(main=_main_class(script, mains, known)).encode()
    for script, (mains, heap) in line.servers().items():
        main = _main_class(script, mains, known)
        yield f"bin/{script}.sh", 0o755, _SERVER.format(main=main, heap=heap, **logs).encode()
    for name, level, stream in ((line.log_file, "INFO", "out"), (f"tools-{line.log_file}", "WARN", "err")):
        # The newer logging library names its streams in capitals.
        shown = stream.upper() if line.log_config is _LOG4J2 else stream
        yield f"config/{name}", 0o644, line.log_config.format(level=level, stream=shown).encode()
    for jar in jars:
        yield f"libs/{jar.name}", 0o644, jar.read_bytes()


def _classes(jars: list[Path]) -> set[str]:
    known: set[str] = set()
    for jar in jars:
        with zipfile.ZipFile(jar) as file:
            known.update(file.namelist())
    return known


def _main_class(script: str, mains: str, known: set[str]) -> str:
    """Check that each script's class is in a jar; otherwise it would fail on a host, during a playbook."""
    for main in mains.split():
        if f"{main.replace('.', '/')}.class" in known:
            return main
    raise ServiceError(f"no jar of Kafka's has the class of {script} ({mains})")

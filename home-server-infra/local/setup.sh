#!/bin/sh
# First half of `make setup`: the system packages, without which not even Python's half (bootstrap.py) can run.
# Root installs what is missing; anyone else gets the one command to run. Nothing missing costs milliseconds.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
missing=""

need() { # package, reason
    missing="$missing $1"
    echo "setup: needs the system package $1: $2"
}

java_major() { # 0 when there is none
    version=$("$1" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    echo "${version:-0}"
}

command -v git >/dev/null || need git "the tests ask it which files are part of the project"
command -v python3 >/dev/null || need python3 "setup, generator and stack run on it"
# Debian splits venv from Python.
python3 -c 'import ensurepip, venv' 2>/dev/null || need python3-venv "every Python environment is made with it"
# The JVM itself is asked once; its path is remembered, since starting it costs a third of a second.
stamp="$here/../../.local/stamps/java"
# Maven and Spark prefer JAVA_HOME to PATH.
java=$(command -v "${JAVA_HOME:+$JAVA_HOME/bin/}java" || true)
if [ -z "$java" ]; then
    need default-jre-headless "brokers, schema registry and Spark run on Java 17 or newer"
elif [ "$(cat "$stamp" 2>/dev/null || true)" != "$java" ]; then
    if [ "$(java_major "$java")" -ge 17 ]; then
        mkdir -p "$(dirname "$stamp")" && echo "$java" >"$stamp"
    else
        need default-jre-headless "brokers, schema registry and Spark run on Java 17 or newer; $java is older"
    fi
fi
command -v mvn >/dev/null || need maven "fetches the jars of pom.xml"
command -v psql >/dev/null || need postgresql-client "\`make psql\` opens the warehouse with it"
if [ "$(id -u)" -eq 0 ]; then
    command -v runuser >/dev/null || need util-linux "PostgreSQL refuses to run as root: runuser starts it as its own user"
    command -v useradd >/dev/null || need passwd "makes the user that PostgreSQL runs as"
fi

if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # a list of words
    set -- $missing
    if ! command -v apt-get >/dev/null; then
        echo "error: install these with your package manager (names are Debian's), then run make setup again: $*" >&2
        exit 3
    elif [ "$(id -u)" -ne 0 ]; then
        echo "error: system packages are missing; run this, then make setup again:" >&2
        echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends $*" >&2
        exit 3
    fi
    echo "setup: installing with apt-get: $*"
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
    if [ "$(java_major)" -lt 17 ]; then
        echo "error: java on PATH is still older than 17; put a newer one first on PATH" >&2
        exit 3
    fi
fi

exec python3 "$here/bootstrap.py" "$@"

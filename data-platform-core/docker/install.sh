#!/bin/sh
# For the build stages: an environment in /opt/crm/venv from locks, every file verified by its hash, and wheels of ours.
#   install.sh "spark warehouse" data-platform-core
# The first argument names locks of requirements/, the others the distributions, whose folders lie in the working folder.
set -eu

locks=""
for lock in $1; do locks="$locks requirements/$lock.txt"; done
shift

python3 -m venv /build/uv
/build/uv/bin/pip install --quiet --no-cache-dir --require-hashes -r requirements/uv.txt
uv=/build/uv/bin/uv
export UV_NO_CACHE=1 UV_LINK_MODE=copy

for venv in /build/tools /opt/crm/venv; do "$uv" venv --quiet --python /usr/bin/python3 "$venv"; done
"$uv" pip sync --quiet --require-hashes --python /build/tools/bin/python requirements/build.txt
# pyspark is published as a source distribution: build.txt pins what it is built with.
# shellcheck disable=SC2086 # a list of files
"$uv" pip sync --quiet --require-hashes --build-constraints requirements/build.txt --compile-bytecode \
    --python /opt/crm/venv/bin/python $locks
for folder in "$@"; do
    (cd "$folder" && /build/tools/bin/python -m hatchling build -t wheel -d /build/wheels)
done
"$uv" pip install --quiet --no-deps --compile-bytecode --python /opt/crm/venv/bin/python /build/wheels/*.whl

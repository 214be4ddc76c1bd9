#!/bin/sh
# `make images`: every image of an environment, by whichever of buildah, podman and docker is there, and its size.
#   build.sh ENV [options for the builder, as --build-arg BASE=localhost/base:1]
set -eu
cd "$(dirname -- "$0")/../.."
environment=$1
shift

for tool in buildah podman docker; do
    builder=$(command -v "$tool" || true)
    [ -z "$builder" ] || break
done
if [ -z "$builder" ]; then
    echo "error: none of buildah, podman and docker is on PATH; install one to build images" >&2
    exit 3
fi

.local/venvs/core/bin/crm --env "$environment" images | while read -r folder name; do
    echo "image $name: from data-platform-core/docker/$folder by $tool"
    began=$(date +%s)
    "$builder" build "$@" --build-arg "VERSION=${name##*:}" --tag "$name" \
        --file "data-platform-core/docker/$folder/Dockerfile" . </dev/null
    echo "image $name: built in $(($(date +%s) - began)) s"
done
"$builder" images

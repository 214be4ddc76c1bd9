#!/bin/sh
# `make deploy` and `make undeploy`: everything of an environment on the cluster of your kubeconfig, in order. Each step may
# be repeated: what is as it should be stays.
#   deploy.sh up|down ENV
set -eu
cd "$(dirname -- "$0")/.."

direction=$1 environment=$2
crm=.local/venvs/core/bin/crm
chart=helm/charts/crm-platform
values=$chart/environments/$environment.yaml
objects=home-server-infra/kubernetes/overlays/$environment
applications=data-platform-core/spark-applications/overlays/$environment

if [ ! -f "$values" ]; then
    known=$(ls $chart/environments | sed 's/\.yaml$//' | tr '\n' ' ')
    echo "error: environment $environment has no cluster in its topology; known: $known" >&2
    exit 2
fi
for program in kubectl helm; do
    command -v $program >/dev/null || { echo "error: $program is not on PATH" >&2; exit 3; }
done
namespace=$(sed -n 's/^  namespace: //p' "$values")

number=0
step() { # words, then a command
    number=$((number + 1))
    began=$(date +%s)
    echo "deploy $number  $1 ..."
    shift
    "$@" || { echo "error: step $number of deploy failed; what it says is above, the steps before it stay" >&2; exit 3; }
    echo "deploy $number  done in $(($(date +%s) - began)) s"
}

release() { # release, chart, version, namespace
    here=helm/values/$environment/$1.yaml
    set -- "$1" "$2" --version "$3" --namespace "$4" --values "helm/values/$1.yaml"
    [ ! -f "$here" ] || set -- "$@" --values "$here"
    helm upgrade --install "$@" --wait --timeout 15m
}

# Not a pipe: a missing secret must fail the step.
secrets() {
    found=$($crm --env "$environment" secrets) || return 1
    printf '%s\n' "$found" | kubectl apply -f -
}

up() {
    step "namespaces, limits, rights" kubectl apply -k "$objects"
    list=helm/values/$environment/charts.txt
    [ -f "$list" ] || list=helm/values/charts.txt
    charts=$(sed '/^#/d' "$list")
    while read -r name source version place <&3; do
        [ -n "$name" ] || continue
        step "$name $version" release "$name" "$source" "$version" "$place"
    done 3<<EOF
$charts
EOF
    step "secrets" secrets
    step "set-up, generator, batch" helm upgrade --install crm "$chart" --namespace "$namespace" --values "$values" \
        --wait --timeout 20m
    step "stream and loads" kubectl apply -k "$applications"
}

# Operators and namespaces stay: others may use them. Data is in the stores and is not touched.
down() {
    step "stream and loads" kubectl delete -k "$applications" --ignore-not-found --wait
    step "generator, batch" helm uninstall crm --namespace "$namespace" --ignore-not-found --wait
}

case $direction in
up | down) $direction ;;
*) echo "error: say up or down, not $direction" >&2; exit 2 ;;
esac

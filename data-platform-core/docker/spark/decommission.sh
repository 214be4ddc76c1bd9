#!/bin/sh
# Runs in an executor's pod before it is ended: Spark moves its blocks to others on this signal, then it ends by itself.
# Kubernetes waits for it as long as the pod's grace period.
set -eu
worker=$(pidof -s java)
kill -s PWR "$worker"
exec tail --pid="$worker" -f /dev/null

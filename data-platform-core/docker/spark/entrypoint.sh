#!/bin/bash
# What Spark on Kubernetes starts: "driver <options of spark-submit> FILE ARGS...", "executor", or a command as it is.
# Everything else comes in SPARK_* variables.
set -euo pipefail

# The job is started as on a laptop: Python first, which starts its JVM. So a signal reaches our own handling of it, and
# the exit code is the job's. Spark's submission is in the file of properties.
driver() {
    local properties=""
    while [[ ${1:-} == --* ]]; do
        [[ $1 != --properties-file ]] || properties=$2
        shift 2
    done
    local program=${1##*/}
    shift
    export PYSPARK_SUBMIT_ARGS="--properties-file $properties --deploy-mode client \
        --conf spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS \
        --conf spark.executorEnv.SPARK_DRIVER_POD_IP=$SPARK_DRIVER_BIND_ADDRESS pyspark-shell"
    exec tini -s -- python "/opt/crm/bin/$program" "$@"
}

executor() {
    # SPARK_JAVA_OPT_0, _1, ...: options of the JVM, one a variable, because values may hold blanks.
    local options=() number=0 name=SPARK_JAVA_OPT_0
    while [[ -n ${!name+set} ]]; do
        options+=("${!name}")
        number=$((number + 1))
        name=SPARK_JAVA_OPT_$number
    done
    exec tini -s -- java "${options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" \
        -cp "${SPARK_CLASSPATH:+$SPARK_CLASSPATH:}${SPARK_CONF_DIR:-$SPARK_HOME/conf}:$SPARK_HOME/jars/*" \
        org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
        --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
        --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
        --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
}

case ${1:-} in
driver | executor) "$@" ;;
*) exec tini -s -- "$@" ;;
esac

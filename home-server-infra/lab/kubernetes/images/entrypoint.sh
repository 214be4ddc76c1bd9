#!/bin/bash
# Spark's scheduler starts pods with `driver ...` or `executor`, and says the rest in SPARK_ variables. Anything else is
# run as it is.
set -euo pipefail

case "${1:-}" in
    driver)
        shift
        exec tini -s -- "$SPARK_HOME/bin/spark-submit" --deploy-mode client \
            --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS" \
            --conf "spark.executorEnv.SPARK_DRIVER_POD_IP=$SPARK_DRIVER_BIND_ADDRESS" "$@"
        ;;
    executor)
        # One JVM option per variable, SPARK_JAVA_OPT_0 and on: a value may hold blanks.
        options=()
        number=0
        while variable=SPARK_JAVA_OPT_$number && [ -n "${!variable+set}" ]; do
            options+=("${!variable}")
            number=$((number + 1))
        done
        # The driver's settings are mounted at SPARK_CONF_DIR, wherever Spark itself lies.
        classes=${SPARK_CLASSPATH:+$SPARK_CLASSPATH:}${SPARK_CONF_DIR:-$SPARK_HOME/conf}:$SPARK_HOME/jars/*
        exec tini -s -- java "${options[@]}" "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" -cp "$classes" \
            org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
            --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
            --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
            --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
        ;;
    *) exec tini -s -- "$@" ;;
esac

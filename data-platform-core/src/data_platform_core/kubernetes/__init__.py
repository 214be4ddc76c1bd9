"""What Kubernetes reads, written from jobs, accounts and topology: SparkApplications, the chart's values, the cluster's
objects. Pure: nothing here connects to a cluster; `kubectl` and `helm` apply it (ADR 0024)."""

// Modules of which only files are read: charts and definitions of resources, to check ours against. Nothing is built.
module crm.platform/kubernetes-manifests

go 1.26.0

require (
	// The newest for Spark 4.0 that was run on a single-node cluster.
	github.com/kubeflow/spark-operator/v2 v2.5.1
	// The operator that the pinned kube-prometheus-stack carries (helm/values).
	github.com/prometheus-operator/prometheus-operator v0.93.1
)

// kubeapi is the light tier: an API server, its store and kubectl. It checks and keeps objects, and runs none.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"

	"crm.platform/lab-cluster/commands"
)

func main() {
	commands.Table{
		"etcd":           func() int { etcdmain.Main(os.Args); return 0 },
		"kube-apiserver": commands.Cobra(apiserver.NewAPIServerCommand),
		"kubectl":        commands.Cobra(kubectl.NewDefaultKubectlCommand),
	}.Main()
}

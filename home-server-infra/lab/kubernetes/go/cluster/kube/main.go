// kube is every part of a single-node Kubernetes in one binary.
package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"crm.platform/lab-cluster/commands"
)

func main() {
	commands.Table{
		"etcd":                    func() int { etcdmain.Main(os.Args); return 0 },
		"kube-apiserver":          commands.Cobra(apiserver.NewAPIServerCommand),
		"kube-controller-manager": commands.Cobra(controllers.NewControllerManagerCommand),
		"kube-proxy":              commands.Cobra(proxy.NewProxyCommand),
		"kube-scheduler":          commands.Cobra(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
		"kubectl":                 commands.Cobra(kubectl.NewDefaultKubectlCommand),
		"kubelet":                 commands.Cobra(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	}.Main()
}

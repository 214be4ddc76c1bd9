// spark-operator links the operator's own commands: its main package is none that another module can build.
package main

import (
	"os"

	"github.com/kubeflow/spark-operator/v2/cmd/operator/controller"
	"github.com/kubeflow/spark-operator/v2/cmd/operator/webhook"
	"github.com/spf13/cobra"
)

func main() {
	operator := &cobra.Command{Use: "spark-operator", SilenceUsage: true}
	operator.AddCommand(controller.NewCommand(), webhook.NewCommand())
	if operator.Execute() != nil {
		os.Exit(1)
	}
}

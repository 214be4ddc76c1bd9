// Package commands links several programs into one: they share a hundred megabytes of client libraries.
//
// The first argument names the program; so does the name that the binary is started under, when it is linked to that.
package commands

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
)

// unknown is the exit status for a call that names no program, as for wrong options.
const unknown = 2

// Table has a program under each name; a program returns its exit status.
type Table map[string]func() int

// Cobra makes a program of a cobra command. It is built only when it is chosen: several register global flags.
func Cobra(build func() *cobra.Command) func() int {
	return func() int { return cli.Run(build()) }
}

// Main runs the program that the call names, and ends with its exit status.
func (table Table) Main() {
	if program, ok := table[filepath.Base(os.Args[0])]; ok {
		os.Exit(program())
	}
	if len(os.Args) > 1 {
		if program, ok := table[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			os.Exit(program())
		}
	}
	names := slices.Sorted(maps.Keys(table))
	fmt.Fprintf(os.Stderr, "usage: %s PROGRAM ..., one of: %s\n", os.Args[0], strings.Join(names, ", "))
	os.Exit(unknown)
}

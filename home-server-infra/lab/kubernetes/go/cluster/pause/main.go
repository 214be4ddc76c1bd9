// pause is the first process of every pod: it holds the pod's namespaces, and buries what other containers leave behind.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	arrived := make(chan os.Signal, 8)
	signal.Notify(arrived, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	for got := range arrived {
		if got != syscall.SIGCHLD {
			return
		}
		bury()
	}
}

// bury waits for every child that has ended: several may have ended since the last signal.
func bury() {
	for {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
			return
		}
	}
}

// relay carries TCP connections from one address to another: relay LISTEN=TARGET...
//
// Pods reach services that listen on the machine's loopback by it, without a packet filter rule. A service need not be
// up when the relay starts. Go copies between two sockets inside the kernel (splice).
package main

import (
	"io"
	"log"
	"net"
	"os"
	"strings"
	"time"
)

// connectTimeout is how long a client waits for a service that does not answer.
const connectTimeout = 5 * time.Second

func main() {
	if len(os.Args) == 1 {
		log.Fatal("usage: relay LISTEN=TARGET..., each an address with its port")
	}
	ended := make(chan error)
	for _, pair := range os.Args[1:] {
		listen, target, ok := strings.Cut(pair, "=")
		if !ok {
			log.Fatalf("%q is not LISTEN=TARGET, such as 10.0.0.1:9000=127.0.0.1:9000", pair)
		}
		listener, err := net.Listen("tcp", listen)
		if err != nil {
			log.Fatal(err)
		}
		log.Printf("%s to %s", listen, target)
		go func() { ended <- accept(listener, target) }()
	}
	log.Fatal(<-ended)
}

func accept(listener net.Listener, target string) error {
	for {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		go carry(client.(*net.TCPConn), target)
	}
}

// carry joins a client with the service; without a service the client's connection is closed.
func carry(client *net.TCPConn, target string) {
	connected, err := net.DialTimeout("tcp", target, connectTimeout)
	if err != nil {
		log.Print(err)
		client.Close()
		return
	}
	service := connected.(*net.TCPConn)
	sent := make(chan struct{})
	go func() { copyOneWay(service, client); close(sent) }()
	copyOneWay(client, service)
	<-sent
	client.Close()
	service.Close()
}

// copyOneWay ends with its source, and tells the other side: one direction may be open longer than the other.
func copyOneWay(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}

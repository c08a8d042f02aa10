//go:build !386 && !arm

package beam

import (
	"context"
	"errors"
	"fmt"
	"net"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/prism"
)

// ErrOpen says that Prism cannot be kept from the network.
var ErrOpen = errors.New("beam: Prism would be open to everybody on the network, to run any program: this system cannot bind it to this machine")

// connect returns the client of this process's Prism.
//
// Prism takes jobs from whoever connects, programs to run among them, and listens
// at all addresses of the machine. Here its socket is bound to the loopback
// device as soon as it is there, or it is not used.
func connect() (c jobpb.JobServiceClient, err error) {
	prismServer.Lock()
	defer prismServer.Unlock()
	if prismServer.client != nil {
		return prismServer.client, nil
	}
	if !canBind {
		return nil, ErrOpen
	}
	// The port is chosen here, by which the socket is found.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	defer func() {
		if p := recover(); p != nil { // so it says that the port was taken meanwhile
			err = fmt.Errorf("beam: prism: %v", p)
		}
	}()
	c, err = prism.CreateJobServer(context.Background(), prism.Options{Port: port})
	if err != nil {
		return nil, err
	}
	if err := bindToLoopback(port); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOpen, err)
	}
	prismServer.client, prismServer.port = c, port
	return c, nil
}

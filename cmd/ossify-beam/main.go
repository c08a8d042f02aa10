//go:build !386 && !arm

// Command ossify-beam is ossify with Apache Beam, which makes a program twice as
// large: ossify hands its command line over to it where a pipeline is to run on
// Beam, and clusters run it as their worker. Beam does not compile for 32-bit
// Linux.
package main

import (
	"ossify/cmd/internal/cli"
	"ossify/pipeline"
	"ossify/pipeline/beam"
)

func main() { cli.Main(&pipeline.Beam{Run: beam.Run, Worker: beam.Worker}) }

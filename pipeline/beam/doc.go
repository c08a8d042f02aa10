// Package beam runs a job of package pipeline on Apache Beam: on Prism, Beam's
// runner in this process, or on a cluster of Flink, Spark or Dataflow.
//
// The pipeline is the elements' file, a shuffle, and the workers. Distribution
// and retries are the runner's; results are the workers' own files, so nothing
// has to come back through Beam.
//
// No other package imports Beam, which makes a program some 50 MB larger. Beam
// does not compile for 32-bit Linux; there is nothing here there.
package beam

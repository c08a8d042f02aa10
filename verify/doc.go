// Package verify drives comparisons with a golden: a trace that the PyTorch
// reference wrote (tools/reference).
//
// Every [Subject], a program that computes the model, is run twice. Teacher-
// forced, it computes each stage from the golden's own values of the stages
// before it, so that a stage is blamed for its own errors only. Free-running,
// it computes the whole sequence from its own values. The oracle does the same
// in float64, and says how far from the exact values we and the reference are.
//
// [Faults] shows that the comparison can fail: it puts known bugs into the
// model, one at a time.
package verify

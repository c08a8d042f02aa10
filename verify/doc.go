// Package verify judges what programs compute of a model. The oracle says, for
// every element of every stage, between which bounds a program stays that
// computes as it should, given its own values before; no element is free.
//
// [Run] judges the PyTorch reference by a golden, a trace that it wrote
// (tools/reference), and a [Subject], our engine, on the golden's values and on
// its own: all rows at once, and through the cache.
//
// [Faults] and [Attack] show that this can fail: they put known bugs into the
// model, one at a time, and change weights at random.
package verify

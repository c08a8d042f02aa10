// Package grammar holds a model to a form: a language over bytes and special
// tokens becomes an automaton that says which tokens may come next. From it come
// messages of harmony with no malformed header, and answers and arguments that
// follow a JSON schema.
//
// An expression is a node; what may follow it after a symbol is its derivative,
// which is a node, too (Brzozowski 1964). Equal nodes are one, so that states
// repeat and what is known of them is kept. A nested value is a node on a longer
// sequence, which is all the stack there is.
package grammar

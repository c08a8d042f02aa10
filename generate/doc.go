// Package generate turns a model's logits into tokens: samplers, stops, and the
// loop between them.
//
// What a [Sampler] picks depends on the logits, the seed and the token's
// position alone. The engine gives the same logits whatever the workers, chunks
// and batch, so a seed gives the same tokens too.
package generate

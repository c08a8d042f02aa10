// Command ossify makes gpt-oss models portable and proves that nothing changed
// on the way.
package main

import "ossify/cmd/internal/cli"

func main() { cli.Main(nil) }

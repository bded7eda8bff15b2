// Command image-builder turns a short YAML file into Kubernetes node images.
package main

import (
	"os"

	"imagebuilder.dev/internal/cli"
	"imagebuilder.dev/internal/sandbox"
)

func main() {
	sandbox.Main()
	os.Exit(cli.Run(os.Args[1:], os.Stdout, os.Stderr))
}

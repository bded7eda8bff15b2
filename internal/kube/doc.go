// Package kube makes the programs of Kubernetes available as locked inputs:
// kubelet, kubeadm and kubectl, the control plane, etcd, CoreDNS, the pause
// program, containerd and the CNI plugins.
//
// The way through the package, for source "modules":
//
//	Source.Resolve  version ──▶ Lock       (network: module proxy and checksum database)
//	Compiler.Build  Lock ──▶ Binaries      (no network: the Go toolchain in the sandbox)
//	Images          Binaries ──▶ []Image   (what the container images hold, as data)
//
// Release and Directory end in the same Binaries, made elsewhere.
//
// What is compiled follows upstream's own release scripts: the same packages,
// build tags and linker variables, with static linking throughout.
package kube

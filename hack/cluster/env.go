package main

import (
	"flag"
	"fmt"
	"strings"
)

// env prints shell exports, for `eval "$(go run ./hack/cluster env)"`; with --assets only the folder of envtest's
// programs, which it builds if need be.
func env(p paths, args []string) error {
	flags := flag.NewFlagSet("env", flag.ContinueOnError)
	assetsOnly := flags.Bool("assets", false, "print only the folder with envtest's programs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	tools, err := p.ensure(envtestAssets...)
	if err != nil {
		return err
	}
	assets := p.inCache(tools[kubernetesModule].dir)
	if *assetsOnly {
		fmt.Println(assets)
		return nil
	}
	fmt.Printf("export KUBECONFIG=%s\n", shellQuote(p.kubeconfig()))
	fmt.Printf("export KUBECACHEDIR=%s\n", shellQuote(p.kubectlCache())) // by default kubectl leaves it in HOME
	fmt.Printf("export KUBEBUILDER_ASSETS=%s\n", shellQuote(assets))
	fmt.Printf("export PATH=%s:\"$PATH\"\n", shellQuote(assets))
	return nil
}

func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

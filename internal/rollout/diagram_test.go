package rollout_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The page beside the package names every state and every rule, these in their order.
func TestThePageSaysWhatTheCodeDoes(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	page := read("ROLLOUT.md")
	states := regexp.MustCompile(`State += "(\w+)"`).FindAllStringSubmatch(read("states.go"), -1)
	rules := regexp.MustCompile(`\(\*round\)\.(\w+),\n`).FindAllStringSubmatch(read("rollout.go"), -1)
	if len(states) < 10 || len(rules) < 10 {
		t.Fatalf("found %d states and %d rules in the code", len(states), len(rules))
	}
	for _, s := range states {
		if !regexp.MustCompile(`\b` + s[1] + `\b`).MatchString(page) {
			t.Errorf("ROLLOUT.md doesn't have the state %s", s[1])
		}
	}
	rest := page
	for _, r := range rules {
		_, after, found := strings.Cut(rest, "`"+r[1]+"`")
		if !found {
			t.Fatalf("ROLLOUT.md doesn't have the rule %s, or not in its place", r[1])
		}
		rest = after
	}
}

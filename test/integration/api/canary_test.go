//go:build integration

package api

import (
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

func canary(fields object) object        { return object{"canary": fields} }
func analysed(name string, v any) object { return object{"analysis": object{name: v}} }

// steps of these weights, a minute each.
func steps(weights ...any) object {
	list := []any{}
	for _, w := range weights {
		list = append(list, step(w, "1m"))
	}
	return canary(object{"steps": list})
}

func step(weight, duration any) object { return object{"weight": weight, "duration": duration} }

func oneStep(s object) object { return canary(object{"steps": []any{s}}) }

// rising are n weights, each above the one before.
func rising(n int) []any {
	var out []any
	for i := range n {
		out = append(out, int64(i+1))
	}
	return out
}

// many are n distinct names of a length.
func many(n, length int) []any {
	var out []any
	for i := range n {
		out = append(out, fmt.Sprintf("%04d%s", i, strings.Repeat("x", length-4)))
	}
	return out
}

// TestO9_TheAPIServerRefusesCanaries: each message names the field, what is wrong and the way out.
func TestO9_TheAPIServerRefusesCanaries(t *testing.T) {
	namespace := server.Namespace(t, nil)
	const notRising = "don't rise; sort them, and give each weight once"
	for name, tc := range map[string]struct {
		changes object
		want    []string // all of them are in the message
	}{
		"weight and steps":          {canary(object{"weight": int64(10), "steps": []any{step(int64(5), "1m")}}), []string{"spec.canary:", "set weight or steps, not both"}},
		"neither":                   {canary(object{}), []string{"spec.canary:", "set weight or steps; without a canary, leave canary out"}},
		"match alone":               {canary(object{"match": object{"commands": []any{"rank"}}}), []string{"spec.canary:", "set weight or steps"}},
		"no steps":                  {canary(object{"steps": []any{}}), []string{"spec.canary.steps", "at least 1 items"}},
		"21 steps":                  {steps(rising(21)...), []string{"spec.canary.steps", "21", "at most 20 items"}},
		"descending steps":          {steps(int64(25), int64(5)), []string{"spec.canary.steps", notRising}},
		"descending, as texts":      {steps("25%", "5"), []string{"spec.canary.steps", notRising}},
		"descending, mixed":         {steps(int64(9), "10", "9.5%"), []string{"spec.canary.steps", notRising}},
		"equal steps":               {steps(int64(5), int64(5)), []string{"spec.canary.steps", notRising}},
		"equal, with percent":       {steps("5%", int64(5)), []string{"spec.canary.steps", notRising}},
		"equal, with decimals":      {steps("5.0", "5.00%"), []string{"spec.canary.steps", notRising}},
		"step of 0":                 {steps(int64(0)), []string{"spec.canary.steps[0].weight", "Invalid value: 0", "above 0 and below 100"}},
		"step of 0, as text":        {steps("0.00%"), []string{"spec.canary.steps[0].weight", `"0.00%"`, "above 0 and below 100"}},
		"step of 100":               {steps(int64(5), int64(100)), []string{"spec.canary.steps[1].weight", "100", "leave a step of 100 out"}},
		"step of 100, as text":      {steps("100%"), []string{"spec.canary.steps[0].weight", `"100%"`, "leave a step of 100 out"}},
		"negative step":             {steps(int64(-5)), []string{"spec.canary.steps[0].weight", "-5", "for example 5 or 0.25%"}},
		"malformed step":            {steps("five"), []string{"spec.canary.steps[0].weight", `"five"`, "for example 5 or 0.25%"}},
		"step with three decimals":  {steps("0.125%"), []string{"spec.canary.steps[0].weight", `"0.125%"`, "two decimals"}},
		"step without weight":       {oneStep(object{"duration": "1m"}), []string{"spec.canary.steps[0].weight", "Required"}},
		"step without duration":     {oneStep(object{"weight": int64(5)}), []string{"spec.canary.steps[0].duration", "Required"}},
		"step of no time":           {oneStep(step(int64(5), "0s")), []string{"spec.canary.steps[0].duration", `"0s"`, "from 1s to 720h; write for example 2m"}},
		"step below a second":       {oneStep(step(int64(5), "999ms")), []string{"spec.canary.steps[0].duration", `"999ms"`, "from 1s to 720h"}},
		"step of a month and more":  {oneStep(step(int64(5), "721h")), []string{"spec.canary.steps[0].duration", `"721h"`, "from 1s to 720h"}},
		"step in days":              {oneStep(step(int64(5), "1d")), []string{"spec.canary.steps[0].duration", `"1d"`, "write for example 2m"}},
		"duration without a unit":   {oneStep(step(int64(5), "60")), []string{"spec.canary.steps[0].duration", `"60"`, "write for example 2m"}},
		"duration as a number":      {oneStep(step(int64(5), int64(60))), []string{"spec.canary.steps[0].duration", "integer", "string"}},
		"negative duration":         {oneStep(step(int64(5), "-1m")), []string{"spec.canary.steps[0].duration", `"-1m"`, "write for example 2m"}},
		"no samples in a step":      {oneStep(object{"weight": int64(5), "duration": "1m", "minSamples": int64(0)}), []string{"spec.canary.steps[0].minSamples", "0", "greater than or equal to 1"}},
		"empty match":               {canary(object{"weight": int64(5), "match": object{}}), []string{"spec.canary.match", "set commands, programs or both; to match everything, leave match out"}},
		"match of no commands":      {canary(object{"weight": int64(5), "match": object{"commands": []any{}}}), []string{"spec.canary.match.commands", "at least 1 items"}},
		"match of an empty name":    {canary(object{"weight": int64(5), "match": object{"commands": []any{""}}}), []string{"spec.canary.match.commands[0]", "at least 1 chars"}},
		"match of one name twice":   {canary(object{"weight": int64(5), "match": object{"programs": []any{"a", "a"}}}), []string{"spec.canary.match.programs[1]", "Duplicate", `"a"`}},
		"match of 101 commands":     {canary(object{"weight": int64(5), "match": object{"commands": many(101, 8)}}), []string{"spec.canary.match.commands", "101", "at most 100"}},
		"match of a long name":      {canary(object{"weight": int64(5), "match": object{"commands": many(1, 129)}}), []string{"spec.canary.match.commands[0]", "128"}},
		"unknown stickiness":        {canary(object{"weight": int64(5), "stickiness": "Cookie"}), []string{"spec.canary.stickiness", `"Cookie"`, `"Request", "Session"`}},
		"unknown policy":            {object{"rollback": object{"policy": "Manual"}}, []string{"spec.rollback.policy", `"Manual"`, `"Automatic", "Pause", "DryRun"`}},
		"window too short":          {analysed("window", "9s"), []string{"spec.analysis.window", `"9s"`, "from 10s to 24h; write for example 5m"}},
		"window too long":           {analysed("window", "25h"), []string{"spec.analysis.window", `"25h"`, "from 10s to 24h"}},
		"malformed window":          {analysed("window", "five minutes"), []string{"spec.analysis.window", `"five minutes"`, "write for example 5m"}},
		"no samples":                {analysed("minSamples", int64(0)), []string{"spec.analysis.minSamples", "0", "greater than or equal to 1"}},
		"too many samples":          {analysed("minSamples", int64(1000001)), []string{"spec.analysis.minSamples", "1000001", "less than or equal to 1000000"}},
		"negative error increase":   {analysed("maxErrorRateIncrease", int64(-1)), []string{"spec.analysis.maxErrorRateIncrease", "-1", "for example 1 or 0.5%"}},
		"error increase over 100":   {analysed("maxErrorRateIncrease", "100.5"), []string{"spec.analysis.maxErrorRateIncrease", `"100.5"`, "from 0 to 100"}},
		"malformed error increase":  {analysed("maxErrorRateIncrease", "one"), []string{"spec.analysis.maxErrorRateIncrease", `"one"`, "for example 1 or 0.5%"}},
		"error increase, fraction":  {analysed("maxErrorRateIncrease", 0.5), []string{"spec.analysis.maxErrorRateIncrease", "integer,string"}},
		"timeout increase over 100": {analysed("maxTimeoutRateIncrease", int64(101)), []string{"spec.analysis.maxTimeoutRateIncrease", "101", "for example 1 or 0.5%"}},
		"paused as a text":          {object{"paused": "yes"}, []string{"spec.paused", "string", "boolean"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := server.Client.Create(t.Context(), manifest(namespace, tc.changes), client.DryRunAll)
			if err == nil {
				t.Fatal("the API server accepted it")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("message lacks %q:\n%v", want, err)
				}
			}
		})
	}
}

// TestTheAPIServerAcceptsCanaries, the largest that the rules allow too: their cost is within what a request may spend.
func TestTheAPIServerAcceptsCanaries(t *testing.T) {
	namespace := server.Namespace(t, nil)
	largest := []any{}
	for i := range 20 {
		largest = append(largest, object{"weight": fmt.Sprintf("%d.%02d%%", 10+i, i), "duration": "719h59m59s999ms", "minSamples": int64(1000000)})
	}
	for name, changes := range map[string]object{
		"one step":              steps(int64(5)),
		"the issue's three":     steps(int64(5), int64(25), int64(50)),
		"20 steps":              steps(rising(20)...),
		"mixed":                 steps("0.01%", "0.5", int64(1), "1.25%", "99.99"),
		"9 before 10, as texts": steps("9", "10"),
		"shortest and longest":  canary(object{"steps": []any{step(int64(1), "1s"), step(int64(2), "720h")}}),
		"minSamples of a step":  oneStep(object{"weight": int64(5), "duration": "1m", "minSamples": int64(1)}),
		"sticky by session":     canary(object{"weight": int64(5), "stickiness": "Session"}),
		"a match":               canary(object{"weight": int64(5), "match": object{"commands": []any{"rank"}, "programs": []any{"p"}}}),
		"the largest": canary(object{
			"steps": largest, "stickiness": "Session",
			"match": object{"commands": many(100, 128), "programs": many(100, 256)},
		}),
		"thresholds":         {"analysis": object{"window": "10s", "minSamples": int64(1), "maxErrorRateIncrease": "0.5%", "maxTimeoutRateIncrease": int64(0)}},
		"thresholds of 100":  {"analysis": object{"window": "24h", "maxErrorRateIncrease": int64(100), "maxTimeoutRateIncrease": "100%"}},
		"rollback by hand":   {"rollback": object{"policy": "Pause"}},
		"rollback, dry":      {"rollback": object{"policy": "DryRun"}},
		"rollback, as usual": {"rollback": object{}},
		"paused":             {"paused": true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := server.Client.Create(t.Context(), manifest(namespace, changes), client.DryRunAll); err != nil {
				t.Error(err)
			}
		})
	}
}

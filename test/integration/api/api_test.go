//go:build integration

// Package api holds the tests of what the API server itself makes of a WorkerPool: there is no operator here, and no
// webhook.
package api

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
	"github.com/dspex/workerpool-operator/test/integration/apiserver"
)

var server *apiserver.Server

func TestMain(m *testing.M) {
	os.Exit(apiserver.Main(m, func(s *apiserver.Server) { server = s }))
}

// object is JSON as a user writes it; Go's types would keep most mistakes from being made.
type object = map[string]any

// manifest is the smallest WorkerPool with changes to its spec; a nil value removes a field.
func manifest(namespace string, changes object) *unstructured.Unstructured {
	spec := object{
		"poolVersion": "v2", "size": int64(4),
		"worker": object{"module": "summarizer.commands"},
	}
	for name, value := range changes {
		if value == nil {
			delete(spec, name)
			continue
		}
		spec[name] = value
	}
	return &unstructured.Unstructured{Object: object{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "WorkerPool",
		"metadata": object{"namespace": namespace, "name": "summarizer"},
		"spec":     spec,
	}}
}

func worker(name string, value any) object {
	return object{"worker": object{"module": "summarizer.commands", name: value}}
}

func recycle(name string, value any) object { return worker("recycle", object{name: value}) }

func env(pairs ...string) object {
	list := []any{}
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, object{"name": pairs[i], "value": pairs[i+1]})
	}
	return worker("env", list)
}

func resources(requests, limits object) object {
	return worker("resources", object{"requests": requests, "limits": limits})
}

func router(requests, limits object) object {
	return object{"router": object{"resources": object{"requests": requests, "limits": limits}}}
}

func matching(kind string, names ...any) object {
	return object{"canary": object{"weight": int64(1), "match": object{kind: names}}}
}

func envFrom(sources ...any) object { return worker("envFrom", sources) }

func mounts(pairs ...string) object {
	list := []any{}
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, object{"name": pairs[i], "mountPath": pairs[i+1]})
	}
	return worker("volumeMounts", list)
}

func subPath(path string) object {
	return worker("volumeMounts", []any{object{"name": "models", "mountPath": "/models", "subPath": path}})
}

// seventeen of something, one more than a list takes.
func seventeen(item func(i int) any) []any {
	var list []any
	for i := range 17 {
		list = append(list, item(i))
	}
	return list
}

func weight(w any) object        { return object{"canary": object{"weight": w}} }
func timeout(name, d any) object { return object{"timeouts": object{name.(string): d}} }

// numbered are n distinct variables with values of a length.
func numbered(n, length int) object {
	var pairs []string
	for i := range n {
		pairs = append(pairs, fmt.Sprintf("V%d", i), strings.Repeat("x", length))
	}
	return env(pairs...)
}

func TestO9_TheAPIServerRefuses(t *testing.T) {
	namespace := server.Namespace(t, nil)
	for name, tc := range map[string]struct {
		changes object
		want    []string // all of them are in the message
	}{
		"unknown version":            {object{"poolVersion": "v3"}, []string{"spec.poolVersion", `"v3"`, `"v1", "v2"`}},
		"no version":                 {object{"poolVersion": nil}, []string{"spec.poolVersion", "Required"}},
		"size 0":                     {object{"size": int64(0)}, []string{"spec.size", "0", "greater than or equal to 1"}},
		"negative size":              {object{"size": int64(-1)}, []string{"spec.size", "-1", "greater than or equal to 1"}},
		"size too large":             {object{"size": int64(257)}, []string{"spec.size", "257", "less than or equal to 256"}},
		"size as text":               {object{"size": "4"}, []string{"spec.size", "string", "integer"}},
		"no size":                    {object{"size": nil}, []string{"spec.size", "Required"}},
		"negative overflow":          {object{"overflow": int64(-1)}, []string{"spec.overflow", "-1", "greater than or equal to 0"}},
		"size and overflow together": {object{"size": int64(200), "overflow": int64(57)}, []string{"spec.overflow", "more than 256 workers", "lower one"}},
		"concurrency 0":              {worker("concurrency", int64(0)), []string{"spec.worker.concurrency", "0", "greater than or equal to 1"}},
		"concurrency too large":      {worker("concurrency", int64(65)), []string{"spec.worker.concurrency", "65", "less than or equal to 64"}},
		"too many requests at a time": {
			object{"size": int64(16), "overflow": int64(1), "worker": object{"module": "m", "concurrency": int64(60)}},
			[]string{"spec.worker.concurrency", "more than 1000 requests", "lower one"},
		},
		"weight over 100":              {weight(int64(101)), []string{"spec.canary.weight", "101", "for example 10 or 0.25%"}},
		"negative weight":              {weight(int64(-1)), []string{"spec.canary.weight", "-1", "for example"}},
		"weight as text over 100":      {weight("100.01%"), []string{"spec.canary.weight", "\"100.01%\"", "for example"}},
		"weight with three decimals":   {weight("0.125%"), []string{"spec.canary.weight", "\"0.125%\"", "two decimals"}},
		"negative weight as text":      {weight("-1%"), []string{"spec.canary.weight", "\"-1%\"", "for example"}},
		"weight that is no number":     {weight("ten"), []string{"spec.canary.weight", "\"ten\"", "for example"}},
		"empty weight":                 {weight(""), []string{"spec.canary.weight", "for example"}},
		"weight with a space":          {weight("10 %"), []string{"spec.canary.weight", "for example"}},
		"very long weight":             {weight(strings.Repeat("1", 1000)), []string{"spec.canary.weight", "16"}},
		"weight as a fraction":         {weight(0.25), []string{"spec.canary.weight", "integer,string"}},
		"zero checkout timeout":        {timeout("checkout", "0s"), []string{"spec.timeouts.checkout", `"0s"`, "for example 5s"}},
		"negative operation timeout":   {timeout("operation", "-5s"), []string{"spec.timeouts.operation", `"-5s"`, "for example 30s"}},
		"start below a second":         {timeout("start", "999ms"), []string{"spec.timeouts.start", `"999ms"`, "1s to 1h", "for example 5m"}},
		"start over an hour":           {timeout("start", "1h1s"), []string{"spec.timeouts.start", `"1h1s"`, "1s to 1h"}},
		"drain over ten minutes":       {timeout("drain", "10m1s"), []string{"spec.timeouts.drain", `"10m1s"`, "1ms to 10m"}},
		"timeout without a unit":       {timeout("operation", "30"), []string{"spec.timeouts.operation", `"30"`, "for example 30s"}},
		"timeout in days":              {timeout("operation", "1d"), []string{"spec.timeouts.operation", `"1d"`, "for example 30s"}},
		"timeout that overflows":       {timeout("operation", "99999999999h"), []string{"spec.timeouts.operation", "no duration from 1ms to 24h"}},
		"timeout below the clock":      {timeout("operation", "999us"), []string{"spec.timeouts.operation", "1ms to 24h"}},
		"timeout as a number":          {timeout("operation", int64(30)), []string{"spec.timeouts.operation", "integer", "string"}},
		"queue limit over its maximum": {object{"queueLimit": int64(3001)}, []string{"spec.queueLimit", "3001", "less than or equal to 3000"}},
		"negative queue limit":         {object{"queueLimit": int64(-1)}, []string{"spec.queueLimit", "-1", "greater than or equal to 0"}},
		"no module":                    {object{"worker": object{}}, []string{"spec.worker.module", "Required"}},
		"empty module":                 {worker("module", ""), []string{"spec.worker.module", "for example summarizer.commands"}},
		"module as a path":             {worker("module", "summarizer/commands.py"), []string{"spec.worker.module", "summarizer/commands.py", "for example summarizer.commands"}},
		"module with a hyphen":         {worker("module", "my-module"), []string{"spec.worker.module", "my-module", "underscores"}},
		"module that ends with a dot":  {worker("module", "summarizer."), []string{"spec.worker.module", "for example"}},
		"image with a space":           {worker("image", "team/worker: 1"), []string{"spec.worker.image", "team/worker: 1", "for example"}},
		"image with a scheme":          {worker("image", "https://"), []string{"spec.worker.image", "for example"}},
		"python with a newline":        {worker("python", "python3\n"), []string{"spec.worker.python", "control characters"}},
		"duplicate variable":           {env("A", "1", "A", "2"), []string{"spec.worker.env[1]", "Duplicate value", `"A"`}},
		"reserved variable":            {env("WORKERPOOL_SOCKET", "x"), []string{"spec.worker.env[0].name", "WORKERPOOL_", "choose another name"}},
		"malformed variable":           {env("1A", "x"), []string{"spec.worker.env[0].name", `"1A"`, "no digit first"}},
		"too many variables":           {numbered(101, 0), []string{"spec.worker.env", "100"}},
		"too much in variables":        {numbered(3, 8000), []string{"spec.worker.env", "16384", "put the rest"}},
		"request above its limit":      {resources(object{"cpu": "2"}, object{"cpu": "1500m"}), []string{"spec.worker.resources", "request is above its limit", "raise the limit"}},
		"request above, as numbers":    {resources(object{"cpu": int64(2)}, object{"cpu": int64(1)}), []string{"spec.worker.resources", "request is above its limit"}},
		"zero limit":                   {resources(object{}, object{"memory": "0"}), []string{"spec.worker.resources.limits", "memory 0 is out of range", "16Mi to 16Ti"}},
		"negative request":             {resources(object{"cpu": "-1"}, object{}), []string{"spec.worker.resources.requests", "cpu -1 is out of range", "for example 250m"}},
		"memory without a unit":        {resources(object{}, object{"memory": int64(1)}), []string{"spec.worker.resources.limits", "memory 1 is out of range", "for example 256Mi"}},
		"memory in thousandths":        {resources(object{}, object{"memory": "100m"}), []string{"spec.worker.resources.limits", "memory 100m is out of range"}},
		"memory in exbibytes":          {resources(object{}, object{"memory": "100Ei"}), []string{"spec.worker.resources.limits", "memory 100Ei is out of range"}},
		"memory requests in bytes":     {resources(object{"memory": "100"}, object{}), []string{"spec.worker.resources.requests", "memory 100 is out of range"}},
		"cpu below the least":          {resources(object{"cpu": "100u"}, object{}), []string{"spec.worker.resources.requests", "cpu 100u is out of range"}},
		"cpu of a million cores":       {resources(object{}, object{"cpu": "1M"}), []string{"spec.worker.resources.limits", "cpu 1M is out of range"}},
		"storage without a unit":       {resources(object{}, object{"ephemeral-storage": "1"}), []string{"spec.worker.resources.limits", "ephemeral-storage 1 is out of range"}},
		"a quantity without end":       {resources(object{}, object{"memory": "1" + strings.Repeat("0", 40)}), []string{"spec.worker.resources.limits", "malformed"}},
		"router's limit too low":       {router(object{}, object{"memory": "100Mi"}), []string{"spec.router.resources.limits", "memory 100Mi is out of range", "128Mi to 16Ti"}},
		"router's request above limit": {router(object{"cpu": "2"}, object{"cpu": "1"}), []string{"spec.router.resources", "request is above its limit"}},
		"router's GPU":                 {router(object{}, object{"nvidia.com/gpu": "1"}), []string{"spec.router.resources.limits", "only cpu, memory and ephemeral-storage"}},
		"router's negative request":    {router(object{"cpu": "-1"}, object{}), []string{"spec.router.resources.requests", "cpu -1 is out of range"}},
		"tmp without a unit":           {worker("tmp", object{"sizeLimit": int64(1)}), []string{"spec.worker.tmp.sizeLimit", "for example 2Gi"}},
		"tmp without an end":           {worker("tmp", object{"sizeLimit": "100Ei"}), []string{"spec.worker.tmp.sizeLimit", "16Mi to 16Ti"}},
		"negative tmp":                 {worker("tmp", object{"sizeLimit": "-1Gi"}), []string{"spec.worker.tmp.sizeLimit", "16Mi to 16Ti"}},
		"tmp on tape":                  {worker("tmp", object{"medium": "Tape"}), []string{"spec.worker.tmp.medium", `"Tape"`, `"Disk", "Memory"`}},
		"tmp in memory, unbounded":     {worker("tmp", object{"medium": "Memory"}), []string{"spec.worker.tmp", "no sizeLimit", "set one"}},
		"variable with a zero byte":    {env("A", "x\x00y"), []string{"spec.worker.env[0].value", "control characters", "base64"}},
		"variable with an escape":      {env("A", "\x1b[31m"), []string{"spec.worker.env[0].value", "control characters"}},
		"variable with a delete":       {env("A", "x\x7f"), []string{"spec.worker.env[0].value", "control characters"}},
		"command with a line end":      {matching("commands", "summarize\n"), []string{"spec.canary.match.commands[0]", "control characters"}},
		"program with a space":         {matching("programs", "my digest"), []string{"spec.canary.match.programs[0]", "spaces"}},
		"image in capitals":            {worker("image", "Team/Worker:1"), []string{"spec.worker.image", "Team/Worker:1", "for example"}},
		"image without a path":         {worker("image", "registry.example.com/:1"), []string{"spec.worker.image", "for example"}},
		"image with two tags":          {worker("image", "worker:1:2"), []string{"spec.worker.image", "for example"}},
		"image with half a digest":     {worker("image", "worker@sha256:00"), []string{"spec.worker.image", "for example"}},
		"image with two slashes":       {worker("image", "r.example.com//worker"), []string{"spec.worker.image", "for example"}},
		"too many requests to recycle": {recycle("maxRequests", int64(1<<31-1)), []string{"spec.worker.recycle.maxRequests", "less than or equal to 1000000000"}},
		"malformed quantity":           {resources(object{}, object{"memory": "1 GB"}), []string{"spec.worker.resources.limits", "1 GB"}},
		"folder with a newline":        {worker("workingDir", "/app\n"), []string{"spec.worker.workingDir", "control characters", "for example /app"}},
		"variables from nothing":       {envFrom(object{"prefix": "A_"}), []string{"spec.worker.envFrom[0]", "exactly one of configMapRef and secretRef"}},
		"variables from both": {envFrom(object{"secretRef": object{"name": "a"}, "configMapRef": object{"name": "a"}}),
			[]string{"spec.worker.envFrom[0]", "exactly one of configMapRef and secretRef", "another entry"}},
		"variables of no name":         {envFrom(object{"secretRef": object{"name": ""}}), []string{"spec.worker.envFrom[0].secretRef.name", "for example llm-keys"}},
		"variables of a malformed one": {envFrom(object{"configMapRef": object{"name": "LLM_Keys"}}), []string{"spec.worker.envFrom[0].configMapRef.name", `"LLM_Keys"`, "for example llm-keys"}},
		"prefix with a hyphen":         {envFrom(object{"prefix": "A-", "secretRef": object{"name": "a"}}), []string{"spec.worker.envFrom[0].prefix", `"A-"`, "underscores"}},
		"reserved prefix":              {envFrom(object{"prefix": "WORKERPOOL_", "secretRef": object{"name": "a"}}), []string{"spec.worker.envFrom[0].prefix", "choose another prefix"}},
		"too many sources": {worker("envFrom", seventeen(func(int) any { return object{"secretRef": object{"name": "a"}} })),
			[]string{"spec.worker.envFrom", "16"}},
		"mount of a malformed volume": {mounts("My_Models", "/models"), []string{"spec.worker.volumeMounts[0].name", `"My_Models"`, "pod template"}},
		"mount of the pool's volume":  {mounts("workerpool-state", "/models"), []string{"spec.worker.volumeMounts[0].name", `"workerpool-state"`, "the pool's own"}},
		"two mounts at one place":     {mounts("a", "/models", "b", "/models"), []string{"spec.worker.volumeMounts[1]", "Duplicate value", "/models"}},
		"too many mounts": {worker("volumeMounts", seventeen(func(i int) any { return object{"name": "a", "mountPath": fmt.Sprintf("/m%d", i)} })),
			[]string{"spec.worker.volumeMounts", "16"}},
		"mount at a relative path":      {mounts("a", "models"), []string{"spec.worker.volumeMounts[0].mountPath", `"models"`, "for example /models"}},
		"mount with a slash at its end": {mounts("a", "/models/"), []string{"spec.worker.volumeMounts[0].mountPath", `"/models/"`, "no slash at its end"}},
		"mount that climbs":             {mounts("a", "/models/../run"), []string{"spec.worker.volumeMounts[0].mountPath", "/models/../run", "for example /models"}},
		"mount with a colon":            {mounts("a", "/models:ro"), []string{"spec.worker.volumeMounts[0].mountPath", "colon"}},
		"mount over everything":         {mounts("a", "/"), []string{"spec.worker.volumeMounts[0].mountPath", "for example /models"}},
		"mount over the pool's sockets": {mounts("a", "/run/workerpool/slot"), []string{"spec.worker.volumeMounts[0].mountPath", "/run/workerpool/slot", "would hide", "choose another folder"}},
		"mount over their parent":       {mounts("a", "/run"), []string{"spec.worker.volumeMounts[0].mountPath", "would hide"}},
		"mount over them, by a link":    {mounts("a", "/var/run/workerpool"), []string{"spec.worker.volumeMounts[0].mountPath", "would hide"}},
		"mount over the binary":         {mounts("a", "/opt/workerpool"), []string{"spec.worker.volumeMounts[0].mountPath", "would hide"}},
		"mount over /tmp":               {mounts("a", "/tmp"), []string{"spec.worker.volumeMounts[0].mountPath", "would hide"}},
		"mount over /proc":              {mounts("a", "/proc/self"), []string{"spec.worker.volumeMounts[0].mountPath", "would hide"}},
		"mount over a token's place":    {mounts("a", "/var/run/secrets"), []string{"spec.worker.volumeMounts[0].mountPath", "would hide"}},
		"absolute subPath":              {subPath("/small"), []string{"spec.worker.volumeMounts[0].subPath", `"/small"`, "for example models/small"}},
		"subPath that climbs":           {subPath("small/../.."), []string{"spec.worker.volumeMounts[0].subPath", "without .."}},
		"a start that isn't one":        {worker("start", "lazy"), []string{"spec.worker.start", `"lazy"`, `"Eager", "Lazy"`}},
		"recycled before any request":   {recycle("maxRequests", int64(0)), []string{"spec.worker.recycle.maxRequests", "greater than or equal to 1"}},
		"age below a second":            {recycle("maxAge", "999ms"), []string{"spec.worker.recycle.maxAge", `"999ms"`, "1s to 720h"}},
		"idle without a unit":           {recycle("maxIdle", "30"), []string{"spec.worker.recycle.maxIdle", `"30"`, "for example 30m"}},
		"memory below 1Mi":              {recycle("maxMemory", "512k"), []string{"spec.worker.recycle.maxMemory", "512k", "for example 512Mi"}},
		"memory in exbibytes, recycled": {recycle("maxMemory", "100Ei"), []string{"spec.worker.recycle.maxMemory", "16Ti"}},
		"memory that is no quantity":    {recycle("maxMemory", "half"), []string{"spec.worker.recycle.maxMemory", "half"}},
		"resource not shared out":       {resources(object{}, object{"nvidia.com/gpu": "1"}), []string{"spec.worker.resources.limits", "only cpu, memory and ephemeral-storage"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := server.Client.Create(t.Context(), manifest(namespace, tc.changes), client.DryRunAll)
			if err == nil {
				t.Fatal("the API server accepted it")
			}
			t.Log(err)
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("message lacks %q:\n%v", want, err)
				}
			}
		})
	}
}

func TestO9_TheAPIServerRefusesNamesThatNoLabelCanBear(t *testing.T) {
	pool := manifest(server.Namespace(t, nil), nil)
	pool.SetName(strings.Repeat("x", 64))
	err := server.Client.Create(t.Context(), pool, client.DryRunAll)
	if err == nil || !strings.Contains(err.Error(), "choose a shorter one") {
		t.Errorf("a name of 64 characters gave %v, want a refusal that says to choose a shorter one", err)
	}
	pool.SetName(strings.Repeat("x", 63))
	if err := server.Client.Create(t.Context(), pool, client.DryRunAll); err != nil {
		t.Errorf("a name of 63 characters: %v", err)
	}
}

// TestO10_UnknownFieldsAreRefused: with strict validation, as kubectl asks for, nothing is accepted and ignored.
func TestO10_UnknownFieldsAreRefused(t *testing.T) {
	namespace := server.Namespace(t, nil)
	strict := client.WithFieldValidation(server.Client, metav1.FieldValidationStrict)
	for name, changes := range map[string]object{
		"approval":    {"canary": object{"steps": []any{object{"weight": int64(1), "duration": "1m", "approval": "Required"}}}},
		"burnIn":      {"canary": object{"weight": int64(1), "burnIn": "1h"}},
		"overflows":   {"overflows": int64(1)},
		"claims":      worker("resources", object{"claims": []any{}}),
		"subPathExpr": worker("volumeMounts", []any{object{"name": "a", "mountPath": "/a", "subPathExpr": "x"}}),
		"crashes":     {"analysis": object{"maxCrashes": int64(1)}},
		"worker.size": worker("size", int64(1)),
	} {
		t.Run(name, func(t *testing.T) {
			err := strict.Create(t.Context(), manifest(namespace, changes), client.DryRunAll)
			if err == nil || !strings.Contains(err.Error(), "unknown field") {
				t.Errorf("got %v, want a refusal of the unknown field", err)
			}
		})
	}
}

func TestTheAPIServerAccepts(t *testing.T) {
	namespace := server.Namespace(t, nil)
	for name, changes := range map[string]object{
		"smallest": nil,
		"v1":       {"poolVersion": "v1"},
		"largest":  {"size": int64(200), "overflow": int64(56)},
		"as many requests as there can be": {
			"size": int64(20), "overflow": int64(5), "worker": object{"module": "m", "concurrency": int64(40)},
		},
		"weight 0":                       weight(int64(0)),
		"weight 100":                     weight(int64(100)),
		"weight as text":                 weight("10"),
		"weight with percent":            weight("0.25%"),
		"weight 100.00%":                 weight("100.00%"),
		"weight 99.99":                   weight("99.99"),
		"longest timeout":                timeout("operation", "24h"),
		"shortest timeout":               timeout("checkout", "1ms"),
		"shortest start":                 timeout("start", "1s"),
		"longest start":                  timeout("start", "1h"),
		"compound timeout":               timeout("operation", "1h30m0.5s"),
		"no queue":                       {"queueLimit": int64(0)},
		"module with underscore":         worker("module", "_a.b_1"),
		"image by digest":                worker("image", "registry.example.com:5000/team/worker@sha256:"+strings.Repeat("0", 64)),
		"image, empty":                   worker("image", ""),
		"image, short":                   worker("image", "worker"),
		"image of this machine":          worker("image", "localhost/team-less_name.x__y/worker-a:dev"),
		"image by port alone":            worker("image", "registry:5000/worker:V1.4_a-b"),
		"image by address":               worker("image", "[fd00::1]:5000/team/worker:1@sha256:"+strings.Repeat("f", 64)),
		"tmp":                            worker("tmp", object{"sizeLimit": "64Mi"}),
		"tmp in memory":                  worker("tmp", object{"sizeLimit": "64Mi", "medium": "Memory"}),
		"tmp on disk":                    worker("tmp", object{"medium": "Disk"}),
		"router":                         router(object{"cpu": "100m"}, object{"cpu": "500m", "memory": "128Mi", "ephemeral-storage": "1Gi"}),
		"variable of many lines":         env("CERT", "-----BEGIN\r\n\tline\n-----END äß 💡"),
		"largest resources":              resources(object{"cpu": "1m", "memory": "1Mi"}, object{"cpu": "1k", "memory": "16Ti", "ephemeral-storage": "16Ti"}),
		"memory as autoscalers write it": resources(object{"memory": "262144000123m"}, object{"memory": "1.5Gi"}),
		"matched names":                  matching("commands", "text.embed", "größe ändern"),
		"python by path":                 worker("python", "/opt/venv/bin/python3.12"),
		"variable without value":         worker("env", []any{object{"name": "A"}}),
		"relative folder":                worker("workingDir", "src"),
		"variables from objects": envFrom(object{"secretRef": object{"name": "llm-keys"}},
			object{"prefix": "APP_", "configMapRef": object{"name": "settings.v1", "optional": true}}),
		"mounts":               mounts("models", "/models", "models", "/var/lib/models", "shm", "/dev/shm", "scratch", "/tmp/scratch", "a", "/opt/workerpools"),
		"subPath with dots":    subPath("..small/v1..2"),
		"100 variables":        numbered(100, 100),
		"requests alone":       resources(object{"cpu": "100m"}, nil),
		"request at its limit": resources(object{"memory": "1Gi"}, object{"memory": "1024Mi"}),
		"all limits to a worker's life": worker("recycle", object{
			"maxRequests": int64(1), "maxAge": "720h", "maxIdle": "1s", "maxMemory": "1Mi",
		}),
		"lazy":            worker("start", "Lazy"),
		"memory in bytes": recycle("maxMemory", int64(1<<20)),
		"all resources": resources(object{"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "1Mi"},
			object{"cpu": int64(1), "memory": "128Mi", "ephemeral-storage": "2Mi"}),
	} {
		t.Run(name, func(t *testing.T) {
			if err := server.Client.Create(t.Context(), manifest(namespace, changes), client.DryRunAll); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDefaultsShowAfterApply(t *testing.T) {
	pool := manifest(server.Namespace(t, nil), nil)
	if err := server.Client.Create(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	var got v1alpha1.WorkerPool
	if err := server.Client.Get(t.Context(), client.ObjectKeyFromObject(pool), &got); err != nil {
		t.Fatal(err)
	}
	want := v1alpha1.WorkerPoolSpec{
		PoolVersion: v1alpha1.PoolV2, Size: 4,
		Worker: v1alpha1.Worker{Module: "summarizer.commands"},
		Timeouts: v1alpha1.Timeouts{
			Checkout:  &metav1.Duration{Duration: 5 * time.Second},
			Operation: &metav1.Duration{Duration: 30 * time.Second},
			Drain:     &metav1.Duration{Duration: 30 * time.Second},
			Start:     &metav1.Duration{Duration: 2 * time.Minute},
		},
		QueueLimit: new(int32(1000)),
		Analysis: v1alpha1.Analysis{
			Window: &metav1.Duration{Duration: 5 * time.Minute}, MinSamples: new(int32(100)),
			MaxErrorRateIncrease: new(intstr.FromInt32(1)), MaxTimeoutRateIncrease: new(intstr.FromInt32(1)),
		},
		Rollback: v1alpha1.Rollback{Policy: v1alpha1.RollbackAutomatic},
	}
	if diff := cmp.Diff(want, got.Spec); diff != "" {
		t.Errorf("spec after apply (-want +got):\n%s", diff)
	}
}

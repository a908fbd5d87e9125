// Command app is a sample application: it calls a pool of Python workers through the socket that the pod was given,
// with as many callers and at the rate it is told, and counts what comes back.
//
//	app -callers 8 -command sleep -args '{"ms":10}'
//
// Every second it prints requests, latency and errors by the version that served. On :8080 it answers
//
//	GET    /healthz   200 while it runs
//	GET    /stats     what was counted since the start, and of the current load, as JSON
//	POST   /load      a new load instead of the current one (see Load), or with "wait" its figures at its end
//	DELETE /load      no load; answers with the figures of the one that ended
//	any    /pool/...  one request, passed to the pool as it is
//
// load.go makes the requests, stats.go counts them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// grace is how long requests in flight may take after SIGTERM.
const grace = 20 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

func run() error {
	socket := flag.String("socket", os.Getenv("WORKERPOOL_SOCKET"), "the pool's socket (default $WORKERPOOL_SOCKET)")
	listen := flag.String("listen", ":8080", "address of the HTTP endpoint")
	var load Load
	flag.IntVar(&load.Callers, "callers", 0, "callers, each with one request at a time; 0: none until POST /load")
	flag.StringVar(&load.Command, "command", "sleep", "command to call")
	args := flag.String("args", `{"ms":10}`, "its arguments, a JSON object")
	flag.Float64Var(&load.Rate, "rate", 0, "requests per second of all callers together; 0: as fast as replies come")
	flag.Int64Var(&load.Count, "count", 0, "end the program after exactly so many requests, with status 1 if one was lost")
	flag.Parse()
	load.Args = json.RawMessage(*args)
	if *socket == "" {
		return errors.New("no socket: WORKERPOOL_SOCKET is set in pods with the label pool.dspex.dev/pool; or give -socket")
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	transport := dialing(*socket)
	d := newDriver(&http.Client{Transport: transport, Timeout: time.Minute})
	go d.print(ctx, os.Stdout)
	server := &http.Server{Addr: *listen, Handler: handler(d, transport), ReadHeaderTimeout: 10 * time.Second}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	go func() { _ = server.Serve(listener) }()
	return serve(ctx, d, server, load)
}

// serve runs the load given on the command line, then waits for the signal unless that load was all there is to do.
func serve(ctx context.Context, d *driver, server *http.Server, load Load) error {
	if load.Callers > 0 {
		current, err := d.replace(load)
		if err != nil {
			return err
		}
		if load.Count > 0 {
			select {
			case <-current.ended:
			case <-ctx.Done():
			}
			return d.finish()
		}
	}
	<-ctx.Done()
	err := d.finish()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(closing))
}

// dialing returns a transport that keeps its connections to the socket alive.
func dialing(socket string) *http.Transport {
	return &http.Transport{
		MaxIdleConnsPerHost: maxCallers,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}
}

func handler(d *driver, transport http.RoundTripper) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { answer(w, d.stats()) })
	mux.HandleFunc("POST /load", d.post)
	mux.HandleFunc("DELETE /load", func(w http.ResponseWriter, _ *http.Request) { answer(w, d.stop()) })
	mux.Handle("/pool/", http.StripPrefix("/pool", &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "pool"
		},
	}))
	return mux
}

// post replaces the load. With "wait" it answers when the new one has ended, else at once.
func (d *driver) post(w http.ResponseWriter, r *http.Request) {
	var load Load
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&load); err != nil {
		http.Error(w, "the body is a load as JSON, for example "+exampleLoad+": "+err.Error(), http.StatusBadRequest)
		return
	}
	current, err := d.replace(load)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if load.Wait {
		select {
		case <-current.ended:
		case <-r.Context().Done():
			return
		}
	}
	answer(w, current.figures())
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(value)
}

// Package router is the data plane's middle: it serves the application, splits its requests between the stable and
// the canary slot exactly by weight, and applies what the operator says, as far as that is safe.
//
// A request's way: http.go → dispatch.go (which slot, and what to do when it is away) → slotclient → the slot.
// Programs and sessions: routes.go → programs.go, sessions.go → records.go, the store. An executed program goes a
// command's way. openapi.yaml describes all of it.
// A snapshot's way: agent → apply.go (configure the slots, then swap the routing table). server.go ties config,
// handlers, listeners and drain together.
//
// It does no analysis and makes no decision about weights: it never raises one by itself.
package router

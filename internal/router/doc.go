// Package router is the data plane's middle: it serves the application, splits its requests between the stable and
// the canary slot exactly by weight, and applies what the operator says, as far as that is safe.
//
// A request's way: http.go → dispatch.go (which slot, and what to do when it is away) → slotclient → the slot.
// Programs and sessions: routes.go → programs.go, sessions.go → records.go, the store. An executed program goes a
// command's way. openapi.yaml describes all of it.
// A snapshot's way: agent → apply.go (configure the slots, then swap the routing table). server.go ties config,
// handlers, listeners and drain together.
//
// It does no analysis and never raises a weight by itself. The one decision of its own is to trip: to take a canary whose
// workers crash or don't start off the pod's traffic (package trip decides, tripping.go acts, ctl.go does it by hand).
package router

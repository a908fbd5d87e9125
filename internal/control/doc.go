// Package control is the operator's end of the channel to the routers: it knows who each router is, tells it what to
// do, and keeps what it reports. It decides nothing about rollouts and writes nothing to Kubernetes.
//
// One stream per router. The first message is the router's Hello; from then on the operator sends the pool's current
// snapshot at once and at every change, and the router acknowledges, refuses and reports.
package control

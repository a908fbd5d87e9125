// Package store keeps the programs and sessions of a pod: what applications made, and any worker of either version
// can serve. They live in one bbolt file of the router's, so they outlive workers, both slots, and the router
// itself; not the pod.
//
// # Scope
//
// Every program belongs to a session. The session "anonymous" is everyone's: it is always there, and its programs
// are found from every other session too, behind that session's own. Using a session creates it; reading it doesn't.
//
// # Durability
//
// A change is in the file when its method returns, and a method that fails has changed nothing. The file is never
// synced to disk: what a process has written survives that process, however it dies, in the kernel's page cache,
// and a crash of the node ends the pod with its volume as well, so that a sync would save nothing and cost a
// millisecond and more per change. Changes that wait for each other are committed together (commit.go).
//
// Open reads the whole file before it trusts it (scan.go). If it is damaged, what is intact goes into a new file,
// the damaged one is kept beside it until the next time, and the log says so (recover.go).
//
// # Bounds
//
// Records, ids and the whole are bounded. When the whole is full, the sessions and anonymous programs that were idle
// longest make room, but none that was used within Options.MinIdle; if that doesn't help, the change is refused and
// what is stored stays. A disk that is full refuses changes likewise, and reading goes on.
//
// Every failure is a *pool.Error.
package store

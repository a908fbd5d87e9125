// Package python holds the Python side of a worker: the package poolworker and the __main__.py that starts it. The
// binary that is installed into a pod carries them, so that any image with a Python interpreter becomes a worker.
package python

import "embed"

// Files is the tree to install as it is: `PYTHON <dir> --fds R,W` starts a worker from it (docs/protocol.md).
//
//go:embed __main__.py poolworker/*.py poolworker/py.typed
var Files embed.FS

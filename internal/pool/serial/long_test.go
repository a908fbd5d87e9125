//go:build long

package serial_test

import (
	"testing"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
)

func TestP99_MillionRequests(t *testing.T) { pooltest.MillionRequests(t, makeV1) }

func TestWholeContractWithForkedWorkers(t *testing.T) { pooltest.RunAllForked(t, pool.V1, makeV1) }

func TestContractAtLength(t *testing.T) { pooltest.RunLong(t, pool.V1, makeV1) }

//go:build long

package checkout_test

import (
	"testing"

	"github.com/dspex/workerpool-operator/internal/pool"
	"github.com/dspex/workerpool-operator/internal/pool/pooltest"
)

func TestP99_MillionRequests(t *testing.T) { pooltest.MillionRequests(t, makeV2) }

func TestWholeContractWithForkedWorkers(t *testing.T) { pooltest.RunAllForked(t, pool.V2, makeV2) }

func TestContractAtLength(t *testing.T) { pooltest.RunLong(t, pool.V2, makeV2) }

func TestContractAtLengthWithSharedWorkers(t *testing.T) {
	pooltest.RunLongShared(t, pool.V2, makeShared)
}

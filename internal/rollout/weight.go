package rollout

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/dspex/workerpool-operator/api/v1alpha1"
)

// Weight is a share in hundredths of a percent, from 0 to Full.
type Weight uint32

// Full is 100 %.
const Full Weight = 10000

// ParseWeight reads 10, "10", "0.25" or "0.25%".
func ParseWeight(w intstr.IntOrString) (Weight, error) {
	text := strings.TrimSuffix(w.String(), "%")
	percent, err := strconv.ParseFloat(text, 64)
	hundredths := math.Round(percent * 100)
	if err != nil || !(percent >= 0 && percent <= 100) || math.Abs(hundredths-percent*100) > 1e-6 {
		return 0, fmt.Errorf("weight %q isn't a percentage from 0 to 100 in steps of 0.01, for example 10 or \"0.25%%\"", w.String())
	}
	return Weight(hundredths), nil
}

// SpecWeight is the share that the spec wants for a new revision: Full without a canary block. The API server admits
// no malformed weight; should one come through all the same, no traffic moves.
func SpecWeight(spec *v1alpha1.WorkerPoolSpec) Weight {
	if spec.Canary == nil {
		return Full
	}
	if spec.Canary.Weight == nil {
		return 0
	}
	w, err := ParseWeight(*spec.Canary.Weight)
	if err != nil {
		return 0
	}
	return w
}

// String renders percent with up to two decimals: 10, 0.25, 100.
func (w Weight) String() string { return strconv.FormatFloat(float64(w)/100, 'f', -1, 64) }

// StoredWeight reads back what String wrote into a status; anything else is 0, the weight that moves nothing.
func StoredWeight(s string) Weight {
	w, err := ParseWeight(intstr.FromString(s))
	if err != nil {
		return 0
	}
	return w
}

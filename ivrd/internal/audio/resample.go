package audio

import "math"

const (
	// zeros is the number of zero crossings of the sinc on each side of a sample,
	// at the lower of the two rates: with beta below, a stop band under -80 dB and
	// a transition of about a tenth of the band.
	zeros = 32
	// beta is the Kaiser window's shape for 80 dB (Oppenheim & Schafer §7.5.3).
	beta = 8.0
	// rolloff puts the cut-off inside the pass band, so that what lies just above
	// half the new rate does not fold back into speech.
	rolloff = 0.94
)

// resample converts between rates by a polyphase filter: a Kaiser-windowed sinc
// whose phases are computed when first used, so that odd ratios with thousands
// of phases cost no more than the ones a short prompt needs.
func resample(in []float32, from, to int) []float32 {
	if from == to || len(in) == 0 {
		return in
	}
	g := gcd(from, to)
	up, down := to/g, from/g
	// In units of input samples.
	scale := min(1, float64(to)/float64(from)) * rolloff
	half := int(math.Ceil(zeros / scale))
	phases := make([][]float32, up)
	out := make([]float32, (len(in)*up+down-1)/down)
	for i := range out {
		at := i * down
		centre, phase := at/up, at%up
		taps := phases[phase]
		if taps == nil {
			taps = tapsAt(float64(phase)/float64(up), scale, half)
			phases[phase] = taps
		}
		first := centre - half + 1
		var sum float32
		lo, hi := max(0, -first), min(len(taps), len(in)-first)
		for k := lo; k < hi; k++ {
			sum += taps[k] * in[first+k]
		}
		out[i] = sum
	}
	return out
}

// tapsAt are the weights of the 2·half input samples around a point that lies
// offset past its centre sample; their sum is 1, so that no phase is louder.
func tapsAt(offset, scale float64, half int) []float32 {
	weights := make([]float64, 2*half)
	var sum float64
	for k := range weights {
		x := float64(k-half+1) - offset
		w := sinc(x*scale) * kaiser(x*scale/zeros)
		weights[k] = w
		sum += w
	}
	taps := make([]float32, len(weights))
	for k, w := range weights {
		taps[k] = float32(w / sum)
	}
	return taps
}

func sinc(x float64) float64 {
	if math.Abs(x) < 1e-9 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// kaiser is the window at x in -1 to 1.
func kaiser(x float64) float64 {
	if x <= -1 || x >= 1 {
		return 0
	}
	return bessel(beta*math.Sqrt(1-x*x)) / bessel(beta)
}

// bessel is the modified Bessel function of the first kind, order 0, by its
// power series.
func bessel(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > sum*1e-12; k++ {
		term *= (x / 2 / k) * (x / 2 / k)
		sum += term
	}
	return sum
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

package leg_test

import (
	"testing"
	"unsafe"

	"github.com/callmesh/callmesh/mediad/internal/leg"
)

// The memory of a leg is a promise of the design: 20 kB, of which the struct
// is the part that we decide.
func TestALegIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(leg.Leg{}); size > 6<<10 {
		t.Errorf("a leg takes %d bytes", size)
	} else {
		t.Logf("a leg takes %d bytes", size)
	}
}

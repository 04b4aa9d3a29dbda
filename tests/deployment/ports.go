package deployment

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

// lowest and highest bound the ports that Reserve looks at. Linux hands out
// ephemeral ports from 32768 on, so nobody gets one of these by chance between
// our look and the daemon's bind.
const (
	lowest  = 11000
	highest = 19000
)

// Reserve finds n ports of the loopback that are free for TCP and UDP. A daemon
// that is given one still has to bind it, and names it if it cannot.
func Reserve(n int) ([]int, error) {
	var ports []int
	for at, tries := lowest+rand.IntN(highest-lowest), 0; tries < highest-lowest; tries++ {
		if free(at) {
			ports = append(ports, at)
		}
		if len(ports) == n {
			return ports, nil
		}
		if at++; at == highest {
			at = lowest
		}
	}
	return nil, errors.New("no free ports")
}

func free(port int) bool {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func (c Config) quarantine() time.Duration { return cmp.Or(c.Quarantine, 5*time.Second) }

// mediaPorts is the range for RTP: 20000 to 29999 is cut into tens of
// hundreds, so that deployments side by side rarely meet.
func (c Config) mediaPorts() string {
	if c.MediaPorts != "" {
		return c.MediaPorts
	}
	base := 20000 + 1000*rand.IntN(10)
	return fmt.Sprintf("%d-%d", base, base+999)
}

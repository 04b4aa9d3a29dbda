package ivrd

import (
	"fmt"
	"time"
)

// Config is what can be set about ivrd.
type Config struct {
	Timeouts Timeouts `yaml:"timeouts"`
	Audio    Audio    `yaml:"audio"`
	// MaxDialogues is how many one instance runs.
	MaxDialogues int      `yaml:"maxDialogues"`
	Takeover     Takeover `yaml:"takeover"`
}

// Timeouts bound what ivrd waits for.
type Timeouts struct {
	// Ask is the longest a question may take; it must exceed the applications' own
	// timeouts, which sessiond keeps.
	Ask time.Duration `yaml:"ask"`
	// Patience is how long sessiond or a mediad may be out of reach before a
	// dialogue fails.
	Patience time.Duration `yaml:"patience"`
	// Connect and Fetch bound one fetch of a phrase by URL.
	Connect time.Duration `yaml:"connect"`
	Fetch   time.Duration `yaml:"fetch"`
}

// Audio bounds phrases.
type Audio struct {
	// CacheBytes is how much decoded audio is kept in memory.
	CacheBytes int64 `yaml:"cacheBytes"`
	// MaxFileBytes is the most that one file may hold.
	MaxFileBytes int64 `yaml:"maxFileBytes"`
	// Fresh is how long a prompt file is played without asking recordingd whether
	// it has changed.
	Fresh time.Duration `yaml:"fresh"`
}

// Takeover says how soon the dialogues of a dead instance go on elsewhere: at
// most Expiry and two sweeps after it died. All instances must agree.
type Takeover struct {
	Heartbeat time.Duration `yaml:"heartbeat"`
	Expiry    time.Duration `yaml:"expiry"`
	Sweep     time.Duration `yaml:"sweep"`
}

// Defaults returns the configuration of an ivrd that nobody configured.
func Defaults() Config {
	return Config{
		Timeouts: Timeouts{
			Ask: time.Minute, Patience: 10 * time.Second, Connect: 3 * time.Second, Fetch: 10 * time.Second,
		},
		Audio: Audio{
			CacheBytes: 128 << 20, MaxFileBytes: 32 << 20, Fresh: 100 * time.Millisecond,
		},
		MaxDialogues: 20000,
		Takeover:     Takeover{Heartbeat: 700 * time.Millisecond, Expiry: 2 * time.Second, Sweep: 450 * time.Millisecond},
	}
}

// check names the first setting that makes no sense.
func (c Config) check() error {
	positive := []struct {
		name  string
		value int64
	}{
		{"timeouts.ask", int64(c.Timeouts.Ask)},
		{"timeouts.patience", int64(c.Timeouts.Patience)},
		{"timeouts.connect", int64(c.Timeouts.Connect)},
		{"timeouts.fetch", int64(c.Timeouts.Fetch)},
		{"audio.cacheBytes", c.Audio.CacheBytes},
		{"audio.maxFileBytes", c.Audio.MaxFileBytes},
		{"maxDialogues", int64(c.MaxDialogues)},
		{"takeover.heartbeat", int64(c.Takeover.Heartbeat)},
		{"takeover.expiry", int64(c.Takeover.Expiry)},
		{"takeover.sweep", int64(c.Takeover.Sweep)},
	}
	for _, p := range positive {
		if p.value <= 0 {
			return fmt.Errorf("ivrd: %s must be greater than 0", p.name)
		}
	}
	if c.Takeover.Expiry <= c.Takeover.Heartbeat {
		return fmt.Errorf("ivrd: takeover.expiry must be longer than takeover.heartbeat")
	}
	return nil
}

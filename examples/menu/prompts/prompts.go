// Package prompts makes the menu's audio files: spoken by espeak-ng or flite
// where one of them is installed, and otherwise as melodies that tell the prompts
// apart by ear.
package prompts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// prompt is one file: what it says, and how it sounds where nothing can speak.
type prompt struct {
	name, text string
	// notes in hertz; 0 is a pause.
	notes []float64
}

// Notes of the melodies.
const (
	c5, d5, e5, f5, g5, a5, c6 = 523.25, 587.33, 659.26, 698.46, 783.99, 880.00, 1046.50
	g4, c4                     = 392.00, 261.63
)

func all() []prompt {
	return []prompt{
		{"welcome", "Welcome to callmesh.", []float64{c5, e5, g5, c6}},
		{"options", "For our opening hours, press 1. For a game, press 2. To hear this again, press star. To end the call, press 9.",
			[]float64{c5, 0, c5, c5, 0, e5, g5, e5, g5}},
		{"hours", "We are open every day, around the clock.", []float64{g5, f5, e5, d5, c5}},
		{"guess", "I think of a number from 1 to 9. Press the key that you think it is, or star to go back.",
			[]float64{e5, 0, e5, 0, a5}},
		{"higher", "It is higher.", []float64{c5, g5}},
		{"lower", "It is lower.", []float64{g5, c5}},
		{"right", "That is right!", []float64{c5, e5, g5, e5, g5, c6}},
		{"invalid", "This key has no meaning here.", []float64{g4, c4}},
		{"goodbye", "Thank you for calling. Goodbye.", []float64{c6, g5, e5, c5}},
	}
}

// Make returns WAV files by the prompts' names.
func Make(ctx context.Context) (map[string][]byte, error) {
	speak := speaker()
	files := make(map[string][]byte)
	for _, p := range all() {
		if speak == nil {
			files[p.name] = Melody(p.notes)
			continue
		}
		wav, err := speak(ctx, p.text)
		if err != nil {
			return nil, fmt.Errorf("speak prompt %s: %w", p.name, err)
		}
		files[p.name] = wav
	}
	return files, nil
}

// Speech tells whether Make's files are spoken.
func Speech() bool { return speaker() != nil }

// speaker returns what turns text into a WAV file, or nil.
func speaker() func(context.Context, string) ([]byte, error) {
	if path, err := exec.LookPath("espeak-ng"); err == nil {
		return toFile(func(ctx context.Context, text, wav string) *exec.Cmd {
			return exec.CommandContext(ctx, path, "-v", "en", "-s", "150", "-w", wav, text)
		})
	}
	if path, err := exec.LookPath("flite"); err == nil {
		return toFile(func(ctx context.Context, text, wav string) *exec.Cmd {
			return exec.CommandContext(ctx, path, "-t", text, "-o", wav)
		})
	}
	return nil
}

func toFile(command func(ctx context.Context, text, wav string) *exec.Cmd) func(context.Context, string) ([]byte, error) {
	return func(ctx context.Context, text string) ([]byte, error) {
		dir, err := os.MkdirTemp("", "callmesh-menu-")
		if err != nil {
			return nil, err
		}
		defer func() { _ = os.RemoveAll(dir) }() // the system clears what stays behind
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		wav := filepath.Join(dir, "prompt.wav")
		if out, err := command(ctx, text, wav).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
		return os.ReadFile(wav)
	}
}

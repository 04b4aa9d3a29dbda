//go:build !linux

package engine

// Portable is the portable engine of this operating system.
type Portable = Goroutines

// NewPortable returns it without endpoints.
func NewPortable() (*Portable, error) { return NewGoroutines(), nil }

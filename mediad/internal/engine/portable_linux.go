package engine

// Portable is the portable engine of this operating system.
type Portable = Epoll

// NewPortable returns it without endpoints.
func NewPortable() (*Portable, error) { return NewEpoll() }

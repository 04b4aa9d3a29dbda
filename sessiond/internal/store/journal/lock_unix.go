//go:build unix

package journal

import (
	"os"
	"syscall"
)

// lock takes the file for this process; the kernel lets go of it when we die.
func lock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

//go:build !unix

package journal

import "os"

// lock has no portable form elsewhere; there instances need folders of their own.
func lock(*os.File) bool { return true }

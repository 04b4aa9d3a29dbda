package deployment

import "syscall"

// endWithParent makes a daemon end with the process that started it, even when
// that is killed. In a process group of its own it gets no Ctrl-C, so that Stop
// ends the daemons in their order.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// Package ua is the SIP user agent of sessiond: it receives and checks messages,
// runs their transactions, keeps the dialogs' sequence, and tells call control
// what happened. It decides nothing about a call.
//
// Messages are parsed by sipgo and transactions run in sipgo's state machines.
// Sockets, the matching of messages to transactions, and everything above are
// ours, for reasons that each cost calls otherwise: sipgo v1.7.2 refuses to send
// a UDP message above 1300 bytes (a 200 with a few Record-Routes), gives every
// message a goroutine and thereby loses the order of a dialog's requests, drops
// what does not parse without the 400 of RFC 3261 §8.2 and logs it whole, keeps
// every UDP source address it ever heard, and puts a random To tag into its 487.
package ua

// Package ua is the SIP user agent of sessiond: it receives and checks messages,
// runs their transactions, keeps the dialogs' sequence, and tells call control
// what happened. It decides nothing about a call.
//
// Transactions run in sipgo's state machines, and messages leave as sipgo's.
// Reading messages, sockets, and the matching of messages to transactions are
// ours, for reasons that each cost calls otherwise. sipgo v1.7.2
//   - does not find a tag that is spelt "Tag=" or "tag =", and accepts most of
//     what RFC 4475 says to refuse;
//   - drops what it cannot parse without the 400 of RFC 3261 §8.2, and logs it
//     whole, credentials included;
//   - refuses to send a datagram above 1300 bytes, which a 200 with a few
//     Record-Routes is;
//   - gives every message a goroutine, and so loses the order of a dialog's
//     requests;
//   - answers CANCEL itself, with a To tag in its 487 that no 180 had;
//   - keeps every UDP source address it ever heard.
package ua

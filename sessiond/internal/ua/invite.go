package ua

import (
	"context"
	"time"

	"github.com/callmesh/callmesh/sessiond/internal/dialog"
	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

// retryAfter is what overloaded or draining instances ask for, in seconds.
var retryAfter = Header{"Retry-After", "5"}

// storeWait bounds a question to the index, the record or another instance.
const storeWait = 5 * time.Second

// receiveInvite takes an initial INVITE.
func (u *UA) receiveInvite(r *request) {
	if u.txns.merged(dialog.MergeKey(&r.m)) {
		// RFC 3261 §8.2.2.2: the same request on another way.
		u.m.rejected.WithLabelValues("482").Inc()
		u.answer(r, 482, "Loop Detected")
		return
	}
	if u.draining.Load() || u.txns.size() >= u.cfg.MaxTransactions || u.crowded(r, false) {
		u.m.rejected.WithLabelValues("503").Inc()
		u.answer(r, 503, "Service Unavailable", retryAfter)
		return
	}
	t, fresh := u.begin(r)
	if !fresh {
		t.again()
		return
	}
	if u.index == nil {
		u.invite(r, t)
		return
	}
	if !u.spawn(func() {
		if !u.sentOn(r, t) {
			u.invite(r, t)
		}
	}) {
		u.m.rejected.WithLabelValues("503").Inc()
		_ = t.respond(r.response(503, "Service Unavailable", u.statelessTag(r), nil, retryAfter))
	}
}

// invite tells control of an INVITE.
func (u *UA) invite(r *request, t *txn) {
	inv := &Invitation{Facts: factsOf(r), u: u, r: r, txn: t}
	if early := t.cancellable(inv.cancel); early != nil {
		// The CANCEL was faster than our look-up; control never hears of the call.
		if _, tell := inv.cancel(*early); tell != nil {
			tell()
		}
		return
	}
	u.calls.Invited(u.life, inv)
}

// sentOn asks whether another instance has this INVITE already: then it is a
// retransmission, or one of several copies, and that instance's answer is ours.
func (u *UA) sentOn(r *request, t *txn) bool {
	if u.forward == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(u.life, storeWait)
	defer cancel()
	legs, owner, err := u.index.Lookup(ctx, r.m.Value("call-id"))
	if err != nil {
		// Without the index the INVITE is taken as new, which it nearly always is.
		u.log.Warn("call index unavailable", "call_id", r.m.Value("call-id"), "err", err)
		return false
	}
	if len(legs) == 0 || owner == "" || owner == u.cfg.Instance {
		return false
	}
	res, err := u.sendOn(ctx, r, owner)
	if err != nil || res == nil {
		return false
	}
	if res.StatusCode < 200 {
		t.tx.Terminate() // the owner's INVITE goes on, this one has nothing to add
		return true
	}
	_ = t.respond(res)
	return true
}

// receiveCancel takes a CANCEL (RFC 3261 §9.2).
func (u *UA) receiveCancel(r *request, t *txn) {
	reason := reasonText(&r.m)
	if t != nil {
		var tell func()
		tag := u.statelessTag(r)
		if cancel := t.canceller(reason); cancel != nil {
			tag, tell = cancel(reason)
		}
		// 200 first: it stops the CANCEL's retransmissions.
		u.answerTagged(r, 200, "OK", tag)
		if tell != nil {
			tell()
		}
		return
	}
	if u.index == nil || u.forward == nil || r.relayed {
		u.refuse(r, dialog.NoSuchDialog())
		return
	}
	if !u.spawn(func() {
		ctx, cancel := context.WithTimeout(u.life, storeWait)
		defer cancel()
		_, owner, err := u.index.Lookup(ctx, r.m.Value("call-id"))
		if err == nil && owner != "" && owner != u.cfg.Instance {
			if res, err := u.sendOn(ctx, r, owner); err == nil && res != nil {
				_ = r.flow.WriteMsg(res)
				return
			}
		}
		u.refuse(r, dialog.NoSuchDialog())
	}) {
		u.m.dropped.WithLabelValues("overload").Inc() // the CANCEL comes again
	}
}

// refuse answers a request that no transaction was made for.
func (u *UA) refuse(r *request, ref *dialog.Refusal) {
	u.m.rejected.WithLabelValues(codeLabel(ref.Code)).Inc()
	u.answer(r, ref.Code, ref.Reason, refusalHeaders(ref)...)
}

// reasonText is the text of a Reason header (RFC 3326), or the whole of it.
func reasonText(m *header.Message) string {
	all := m.List("reason")
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

package scenario

import (
	"net/http"
	"strings"
	"time"

	"github.com/callmesh/callmesh/tests/deployment"
	"github.com/callmesh/callmesh/tests/phone"
	"github.com/callmesh/callmesh/tests/sink"
)

// mad are applications that give no usable answer, and the alarms they earn.
type mad struct {
	name            string
	answer          func(*stage) sink.Answer
	newCall, ivrErr string
}

func madApplications() []mad {
	plain := func(a sink.Answer) func(*stage) sink.Answer { return func(*stage) sink.Answer { return a } }
	const failed, asked = "newCall request failed", "getIvrCommand request error"
	return []mad{
		{"empty", plain(sink.Empty()), "newCall response empty", "Empty body in getIvrCommand response"},
		{"failing", plain(sink.Fail(http.StatusInternalServerError)), failed, asked},
		{"refusing", plain(sink.Fail(http.StatusNotFound)), failed, asked},
		{"garbage", plain(sink.Garbage()), failed, "IVR command failed"},
		{"huge", plain(sink.Huge(64 << 20)), failed, asked},
		{"resetting", plain(sink.Reset()), failed, asked},
		{"redirecting", plain(sink.Redirect("http://127.0.0.1:1/")), failed, asked},
		{"slow", func(s *stage) sink.Answer { return s.app.Never() }, failed, asked},
	}
}

func failures() []scenario {
	scenarios := []scenario{
		{name: "no-action", play: func(s *stage) {
			failsNewCall(s, sink.JSON(sink.Object{"hello": 1}), "newCall response without action")
		}},
		{name: "unknown-action", play: func(s *stage) {
			failsNewCall(s, sink.JSON(sink.Object{"action": "teleport"}), "newCall response with unknown action")
		}},
		{name: "application-down", application: func(a *deployment.Application) { a.URL = "http://127.0.0.1:1" }, play: applicationDown},
		{name: "private-address", application: func(a *deployment.Application) { a.AllowPrivate = false }, play: privateAddress},
		{name: "fallback-drop", application: func(a *deployment.Application) { a.Fallback.Action = "drop" }, play: fallbackDrop},
		{name: "fallback-always", application: func(a *deployment.Application) {
			a.Fallback = deployment.Fallback{Action: "ivr", Prompt: "sorry.wav", Always: true}
		}, play: fallbackAlways},
		{name: "fallback-ivr", application: func(a *deployment.Application) {
			a.Fallback = deployment.Fallback{Action: "ivr", Prompt: "sorry.wav"}
		}, play: fallbackIVR},
		{name: "notification-retried", play: notificationRetried},
		{name: "alarm-retried", play: alarmRetried},
	}
	for _, m := range madApplications() {
		scenarios = append(scenarios,
			scenario{name: "newcall-" + m.name, play: func(s *stage) { failsNewCall(s, m.answer(s), m.newCall) }},
			scenario{name: "command-" + m.name, play: func(s *stage) { failsCommand(s, m.answer(s), m.ivrErr) }})
	}
	return scenarios
}

// failsNewCall: the alarm is raised and the call refused with 500.
func failsNewCall(s *stage, answer sink.Answer, alarm string) {
	s.app.Script("newCall", answer)
	s.phone(phone.Config{}).dial(phone.Options{}).refused(500)
	s.alarm("newCallEventError", alarm)
	done := s.nth(1, "sessionCompleted")
	if reason := done.Text("reason"); reason != "error" && reason != "callFailure" {
		s.Errorf("reason %q", reason)
	}
	if past := s.becomes(done.Session(), "status", "error"); past["lastError"] == nil {
		s.Errorf("no lastError: %v", past)
	}
}

// failsCommand: the alarm is raised and the call hung up.
func failsCommand(s *stage, answer sink.Answer, alarm string) {
	s.app.Script("newCall", sink.IVR())
	s.app.Script("getIvrCommand", answer)
	s.call().ends()
	s.alarm("ivrCommandError", alarm)
	s.completed("error")
}

func applicationDown(s *stage) {
	s.phone(phone.Config{}).dial(phone.Options{}).refused(500)
	s.alarm("newCallEventError", "newCall request failed") // the alarms' URL is alive
	if n := len(s.app.All(sink.Of("newCall"))); n != 0 {
		s.Errorf("%d newCalls reached the wrong application", n)
	}
	// sessionCompleted waits for an application that never comes; the session
	// is past all the same.
	id := s.nth(1, "alarms").Session()
	s.becomes(id, "status", "error")
	s.unsettled = true
}

// privateAddress: callbacks to loopback are refused before a byte is sent, and
// the session says why.
func privateAddress(s *stage) {
	s.phone(phone.Config{}).dial(phone.Options{}).refused(500)
	if got := s.app.Summary(); got != "none" {
		s.Errorf("a private address was called: %s", got)
	}
}

func fallbackDrop(s *stage) {
	s.app.Script("newCall", sink.Fail(http.StatusInternalServerError))
	s.phone(phone.Config{}).dial(phone.Options{}).refused(480)
	s.alarm("newCallEventError", "newCall request failed")
	s.alarm("emergencyFallback", "triggeredByError")
}

func fallbackIVR(s *stage) {
	s.prompt("sorry.wav", high, 600*time.Millisecond)
	s.app.Script("newCall", sink.Garbage())
	l := s.call()
	l.hears(high)
	l.ends()
	s.alarm("emergencyFallback", "triggeredByError")
}

func fallbackAlways(s *stage) {
	s.prompt("sorry.wav", high, 600*time.Millisecond)
	l := s.call()
	l.hears(high)
	l.ends()
	s.alarm("emergencyFallback", "triggeredByAlways")
	if n := len(s.app.All(sink.Of("newCall"))); n != 0 {
		s.Errorf("%d newCalls though the fallback is forced", n)
	}
}

// notificationRetried: sessionCompleted comes until it is accepted, and it is
// the same event each time.
func notificationRetried(s *stage) {
	s.commands(bye())
	s.app.Script("sessionCompleted", sink.Fail(http.StatusServiceUnavailable), sink.Reset(), sink.JSON(sink.Object{}))
	s.call().ends()
	first, second, third := s.nth(1, "sessionCompleted"), s.nth(2, "sessionCompleted"), s.nth(3, "sessionCompleted")
	for _, c := range []*sink.Callback{second, third} {
		if c.Text("httpTransactionId") != first.Text("httpTransactionId") || strings.TrimSpace(string(c.Raw)) != strings.TrimSpace(string(first.Raw)) {
			s.Errorf("the retry differs: %s, %s", first.Raw, c.Raw)
		}
	}
}

func alarmRetried(s *stage) {
	s.app.Script("newCall", sink.Empty())
	s.app.Script("alarms", sink.Fail(http.StatusBadGateway), sink.JSON(sink.Object{}))
	s.phone(phone.Config{}).dial(phone.Options{}).refused(500)
	s.nth(2, "alarms")
	s.nth(1, "sessionCompleted")
}

package sink

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"sort"
	"strings"
)

// rule tells what is wrong with a value, or "".
type rule func(v any) string

// field is one field of a callback by the contract.
type field struct {
	rule     rule
	required bool
}

var (
	uuidPattern   = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	digitsPattern = regexp.MustCompile(`^[0-9A-D*#]*$`)
	wholePattern  = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
)

func text(v any) string {
	if _, ok := v.(string); !ok {
		return "must be a string"
	}
	return ""
}

func filled(v any) string {
	if s, ok := v.(string); !ok || s == "" {
		return "must be a string that is not empty"
	}
	return ""
}

func number(v any) string {
	if _, ok := v.(json.Number); !ok {
		return "must be a number"
	}
	return ""
}

func boolean(v any) string {
	if _, ok := v.(bool); !ok {
		return "must be true or false"
	}
	return ""
}

func object(v any) string {
	if _, ok := v.(map[string]any); !ok {
		return "must be an object"
	}
	return ""
}

func anything(any) string { return "" }

func matching(pattern *regexp.Regexp, what string) rule {
	return func(v any) string {
		if s, ok := v.(string); !ok || !pattern.MatchString(s) {
			return "must be " + what
		}
		return ""
	}
}

func oneOf(values ...string) rule {
	return func(v any) string {
		if s, ok := v.(string); !ok || !slices.Contains(values, s) {
			return "must be one of " + strings.Join(values, ", ")
		}
		return ""
	}
}

func address(v any) string {
	s, _ := v.(string)
	if _, err := netip.ParseAddr(s); err != nil {
		return "must be an IP address"
	}
	return ""
}

// headers holds values that are a string or an array of strings (§1.3.1).
func headers(v any) string {
	o, ok := v.(map[string]any)
	if !ok {
		return "must be an object"
	}
	for name, value := range o {
		if text(value) != "" && textList(value) != "" {
			return fmt.Sprintf("%s must be a string or an array of strings", name)
		}
	}
	return ""
}

func textList(v any) string {
	list, ok := v.([]any)
	if !ok {
		return "must be an array of strings"
	}
	for _, item := range list {
		if text(item) != "" {
			return "must be an array of strings"
		}
	}
	return ""
}

func nested(fields map[string]field) rule {
	return func(v any) string {
		o, ok := v.(map[string]any)
		if !ok {
			return "must be an object"
		}
		return strings.Join(apply(o, fields), "; ")
	}
}

var (
	uuid   = matching(uuidPattern, "a UUID in lower case")
	digits = matching(digitsPattern, "digits")
)

// common are the fields of every callback but the alarms (§1.4).
var common = map[string]field{
	"sessionId": {uuid, true}, "replyId": {filled, true}, "traceId": {uuid, true}, "httpTransactionId": {uuid, true},
	"sessionReferenceId": {anything, false}, "ivrServer": {address, true},
	"siteId": {text, false}, "siteBaseUrl": {text, false},
	// Not in the documented bodies of each, and harmless in any.
	"domain": {filled, false}, "participantId": {uuid, false}, "monitoringParticipant": {boolean, false},
}

// contracts has the fields of each callback (§1.5 to §1.12).
var contracts = map[string]map[string]field{
	"newCall": {
		"sipCallId": {filled, true}, "callingPartyPrivacy": {oneOf("public", "secret"), true},
		"callingParty": {text, true}, "calledParty": {filled, true}, "srcAddr": {address, true},
		"displayName": {filled, false}, "fromUser": {text, false}, "xHeaders": {headers, false}, "pHeaders": {headers, false},
		"copyHeaders": {textList, false}, "diversionHeaders": {filled, false}, "referredBy": {filled, false},
		"paiNumber": {filled, false}, "subject": {filled, false},
	},
	"getIvrCommand": {
		"dtmfBuffer": {filled, false},
		"dtmfParams": {nested(map[string]field{
			"dtmfMatch": {text, true}, "reason": {oneOf("terminationKey", "maxDigits", "firstTimeout", "betweenTimeout"), true},
			"matchedTerminationKey": {digits, false}, "encryption": {object, false},
		}), false},
	},
	"callEvent": {
		"connectionId": {uuid, true}, "domain": {filled, true}, "participantId": {uuid, true},
		"event": {oneOf("callingPartyDrop", "calledPartyDrop", "callingPartyFailure", "calledPartyFailure",
			"callerConnectionSplit", "calleeConnectionSplit"), true},
		"remoteParticipantId": {uuid, false}, "remoteUser": {text, false}, "user": {text, false},
		"sipResponseCode": {number, false}, "errorDescr": {text, false}, "sipReason": {text, false},
	},
	"callAnswered": {
		"callingPartyNumber": {text, true}, "callerParticipantId": {uuid, true}, "calleeParticipantId": {uuid, false},
		"remotePartyNumber": {text, false}, "connectionId": {uuid, false}, "callingPartyExpires": {number, false},
		"calledPartyExpires": {number, false}, "codec": {oneOf("PCMU", "PCMA", "GSM"), false},
		"remoteRtpIp": {address, false}, "remoteRtpPort": {text, false},
	},
	"callNotify": {
		"event": {oneOf("ringing", "reInvite", "update"), true}, "participantId": {uuid, true}, "user": {text, false},
		"remoteUser": {text, false}, "remoteParticipantId": {uuid, false}, "sipCallId": {filled, false},
	},
	"getCallIdentifier": {"calledParty": {filled, true}},
	"sessionCompleted": {
		"domain": {filled, true}, "sessionDuration": {matching(wholePattern, "whole seconds as a string"), true},
		"reason": {oneOf("callingPartyDrop", "calledPartyDrop", "hangup", "drop", "callFailure", "maxDuration", "error"), true},
	},
	"recordingReady": {
		"connectionId": {uuid, true}, "recordingFileName": {filled, true}, "fileSize": {number, false}, "domain": {filled, true},
		"event": {oneOf("recordingSuccessful", "recordingFailed"), true}, "reason": {filled, false},
	},
	"fileRecorded": {
		"domain": {filled, true}, "fileName": {filled, true}, "fileSize": {number, true}, "duration": {number, true},
	},
}

// alarm are the fields of an alarm, which has no common part (§1.12).
var alarm = map[string]field{
	"type": {anything, true}, "error": {filled, true}, "domain": {filled, true}, "sessionId": {uuid, true},
	"errorDetails": {object, false}, "status": {anything, false}, "participantId": {uuid, false},
	"user": {text, false}, "callId": {filled, false},
	"replyId": {filled, false}, "traceId": {uuid, false}, "httpTransactionId": {uuid, false}, "ivrServer": {address, false},
	"sessionReferenceId": {anything, false}, "siteId": {text, false}, "siteBaseUrl": {text, false},
}

// alarms are the errors of each type; a trailing space stands for a value that
// follows.
var alarms = map[string][]string{
	"sessionError":   {"maxDuration"},
	"callEventError": {"No response to callEvent request", "Invalid sip address: ", "callEvent response with unknown action", "No action provided in callEvent response"},
	"newCallEventError": {"newCall response empty", "newCall response without action", "newCall response with unknown action",
		"newCall request failed", "Invalid sip address: "},
	"emergencyFallback": {"triggeredByAlways", "triggeredByError"},
	"ivrCommandError": {"phraseError", "mediaServerError", "Empty body in getIvrCommand response",
		"getIvrCommand request error", "IVR command failed", "phraseRemoteCacheTimeout"},
	"callError": {"RTP media timeout", "invalidSdp", "sessionExpired", "cancelFailed", "unexpectedReinviteResponse"},
}

// check reads the body into c and lists what breaks the contract.
func check(r *http.Request, c *Callback) []string {
	var wrong []string
	if r.Method != http.MethodPost {
		wrong = append(wrong, "method is "+r.Method)
	}
	if t := r.Header.Get("Content-Type"); !strings.HasPrefix(t, "application/json") {
		wrong = append(wrong, fmt.Sprintf("content type is %q", t))
	}
	body, err := decode(c.Raw)
	if err != nil {
		return append(wrong, err.Error())
	}
	c.Body = body
	if c.Kind == "alarms" {
		return append(append(wrong, apply(body, alarm)...), checkAlarm(body)...)
	}
	own, ok := contracts[c.Kind]
	if !ok {
		return append(wrong, "no such callback in the contract")
	}
	fields := make(map[string]field, len(common)+len(own))
	for name, f := range common {
		fields[name] = f
	}
	for name, f := range own {
		fields[name] = f
	}
	wrong = append(wrong, apply(body, fields)...)
	if params, ok := body["dtmfParams"].(map[string]any); ok {
		_, key := params["matchedTerminationKey"]
		if key != (params["reason"] == "terminationKey") {
			wrong = append(wrong, "matchedTerminationKey goes with reason terminationKey, and only with it")
		}
	}
	return wrong
}

func apply(body map[string]any, fields map[string]field) []string {
	var wrong []string
	for name, value := range body {
		f, ok := fields[name]
		if !ok {
			wrong = append(wrong, name+" is not in the contract")
			continue
		}
		if text := f.rule(value); text != "" {
			wrong = append(wrong, name+" "+text)
		}
	}
	for name, f := range fields {
		if _, ok := body[name]; f.required && !ok {
			wrong = append(wrong, name+" is missing")
		}
	}
	sort.Strings(wrong)
	return wrong
}

func checkAlarm(body map[string]any) []string {
	kind, _ := body["type"].(string)
	errorText, _ := body["error"].(string)
	known, ok := alarms[kind]
	if !ok {
		return []string{fmt.Sprintf("alarm type %q is not in the contract", kind)}
	}
	for _, e := range known {
		if errorText == e || strings.HasSuffix(e, " ") && strings.HasPrefix(errorText, e) {
			return nil
		}
	}
	return []string{fmt.Sprintf("error %q does not belong to alarm type %s", errorText, kind)}
}

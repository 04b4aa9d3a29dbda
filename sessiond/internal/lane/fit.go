package lane

import "encoding/json"

// grown are the fields of a body that customers and errors make as long as they
// like, and without which a notification still tells what it is for.
var grown = []string{"sessionReferenceId", "errorDetails"}

// Fit returns e if its body is within [MaxBody], or else e without the fields
// that may have made it so long. False means that it is too long all the same:
// a notification that no state write may fail for.
func Fit(e Entry) (Entry, bool) {
	if len(e.Body) <= MaxBody {
		return e, true
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(e.Body, &fields) != nil {
		return e, false
	}
	for _, name := range grown {
		delete(fields, name)
	}
	body, err := json.Marshal(fields)
	if err != nil || len(body) > MaxBody {
		return e, false
	}
	e.Body = body
	return e, true
}

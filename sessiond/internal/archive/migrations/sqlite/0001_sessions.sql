-- Ended sessions. Times are milliseconds since 1970.
CREATE TABLE sessions (
  id          TEXT PRIMARY KEY,
  number      INTEGER NOT NULL,
  domain      TEXT NOT NULL,
  direction   TEXT NOT NULL,
  outcome     TEXT NOT NULL,
  sip_code    INTEGER NOT NULL,
  ended_by    TEXT NOT NULL,
  caller      TEXT NOT NULL,
  callee      TEXT NOT NULL,
  call_id     TEXT NOT NULL,
  trace_id    TEXT NOT NULL,
  created_ms  INTEGER,
  started_ms  INTEGER,
  answered_ms INTEGER,
  ended_ms    INTEGER,
  version     INTEGER NOT NULL,
  record      BLOB NOT NULL
);

-- What lists are sorted by, with the id that breaks ties, and what they look for.
CREATE INDEX sessions_created ON sessions (domain, created_ms, id);
CREATE INDEX sessions_ended ON sessions (domain, ended_ms, id);
CREATE INDEX sessions_number ON sessions (domain, number);
CREATE INDEX sessions_caller ON sessions (domain, caller, created_ms);
CREATE INDEX sessions_callee ON sessions (domain, callee, created_ms);
CREATE INDEX sessions_call_id ON sessions (domain, call_id);

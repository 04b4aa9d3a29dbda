-- Ended sessions. Times are milliseconds since 1970.
CREATE TABLE sessions (
  id          uuid PRIMARY KEY,
  number      bigint NOT NULL,
  domain      text NOT NULL,
  direction   text NOT NULL,
  outcome     text NOT NULL,
  sip_code    integer NOT NULL,
  ended_by    text NOT NULL,
  caller      text NOT NULL,
  callee      text NOT NULL,
  call_id     text NOT NULL,
  trace_id    text NOT NULL,
  created_ms  bigint,
  started_ms  bigint,
  answered_ms bigint,
  ended_ms    bigint,
  version     bigint NOT NULL,
  record      bytea NOT NULL
);

-- What lists are sorted by, with the id that breaks ties, and what they look for.
CREATE INDEX sessions_created ON sessions (domain, created_ms, id);
CREATE INDEX sessions_ended ON sessions (domain, ended_ms, id);
CREATE INDEX sessions_number ON sessions (domain, number);
CREATE INDEX sessions_caller ON sessions (domain, caller, created_ms);
CREATE INDEX sessions_callee ON sessions (domain, callee, created_ms);
CREATE INDEX sessions_call_id ON sessions (domain, call_id);

-- What other participants of a trace want to be passed on, beside the traceparent.
ALTER TABLE events ADD COLUMN tracestate TEXT;
ALTER TABLE early_changes ADD COLUMN tracestate TEXT;
ALTER TABLE requests ADD COLUMN tracestate TEXT;

/*
 * 30_sync.sql: ask for syncs, wait for them, watch them.
 */

CREATE FUNCTION @extschema@.pfa_sync_now(
    organization_id text DEFAULT NULL,
    mode text DEFAULT 'auto')
RETURNS SETOF bigint
LANGUAGE c CALLED ON NULL INPUT VOLATILE PARALLEL UNSAFE ROWS 10
AS 'MODULE_PATHNAME', 'pfa_sync_now';
COMMENT ON FUNCTION @extschema@.pfa_sync_now(text, text) IS 'asks for a sync of one organization, or of all that are not paused, and returns run ids at once; mode is auto, full, delta, or force (full, without the guard against too many deletions)';
REVOKE ALL ON FUNCTION @extschema@.pfa_sync_now(text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_sync_wait(
    run_id bigint DEFAULT NULL,
    timeout interval DEFAULT NULL)
RETURNS text
LANGUAGE c CALLED ON NULL INPUT VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_sync_wait';
COMMENT ON FUNCTION @extschema@.pfa_sync_wait(bigint, interval) IS 'waits for one sync run, or for all that are queued or running, and returns completed, cancelled, failed or timeout: the worst of several, and NULL where there was none';
REVOKE ALL ON FUNCTION @extschema@.pfa_sync_wait(bigint, interval) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_sync_cancel(run_id bigint)
RETURNS boolean
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_sync_cancel';
COMMENT ON FUNCTION @extschema@.pfa_sync_cancel(bigint) IS 'cancels a queued or running sync run; false where it was neither';
REVOKE ALL ON FUNCTION @extschema@.pfa_sync_cancel(bigint) FROM PUBLIC;

CREATE PROCEDURE @extschema@.pfa_sync(
    organization_id text DEFAULT NULL,
    mode text DEFAULT 'auto')
LANGUAGE c
AS 'MODULE_PATHNAME', 'pfa_sync';
COMMENT ON PROCEDURE @extschema@.pfa_sync(text, text) IS 'syncs one organization, or one after the other all that are not paused, in this session, and tells of its progress; not within a transaction block';
REVOKE ALL ON PROCEDURE @extschema@.pfa_sync(text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_sync_status_rows()
RETURNS TABLE (
    organization_id text,
    state text,
    reason text,
    run_id bigint,
    phase text,
    rows_seen bigint,
    rows_total bigint,
    percent float8,
    rows_per_second float8,
    eta interval,
    last_success_at timestamptz,
    last_error text,
    next_sync_at timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 20
AS 'MODULE_PATHNAME', 'pfa_sync_status_rows';
COMMENT ON FUNCTION @extschema@.pfa_sync_status_rows() IS 'rows of the view pfa_sync_status';
REVOKE ALL ON FUNCTION @extschema@.pfa_sync_status_rows() FROM PUBLIC;

CREATE VIEW @extschema@.pfa_sync_status AS
    SELECT organization_id, state, reason, run_id, phase, rows_seen,
        rows_total, percent, rows_per_second, eta, last_success_at,
        last_error, next_sync_at
    FROM @extschema@.pfa_sync_status_rows();
COMMENT ON VIEW @extschema@.pfa_sync_status IS 'how the sync of each organization stands at this moment, a row an organization';
COMMENT ON COLUMN @extschema@.pfa_sync_status.state IS 'idle, queued, running, waiting (running, but PEMS keeps it waiting), backoff (after failures), paused, or copy (the database is one)';
COMMENT ON COLUMN @extschema@.pfa_sync_status.reason IS 'why it is not running';
COMMENT ON COLUMN @extschema@.pfa_sync_status.run_id IS 'the queued or running run, or the last one; phase to eta are of that run';
COMMENT ON COLUMN @extschema@.pfa_sync_status.phase IS 'of a running run: starting, reading, waiting, sweeping, finishing';
COMMENT ON COLUMN @extschema@.pfa_sync_status.rows_total IS 'records that PEMS told there are';
COMMENT ON COLUMN @extschema@.pfa_sync_status.rows_per_second IS 'mean over the run';
COMMENT ON COLUMN @extschema@.pfa_sync_status.eta IS 'time left, if records go on to come as they did';
COMMENT ON COLUMN @extschema@.pfa_sync_status.last_error IS 'how the last sync failed; NULL once one has completed';
COMMENT ON COLUMN @extschema@.pfa_sync_status.next_sync_at IS 'when the next sync is due; NULL where none is, or one is under way';

-- Calls that ask for syncs, where no worker interferes: workers leave template
-- databases alone, so what is queued here stays queued.
CREATE DATABASE regress_pfa_sync;
ALTER DATABASE regress_pfa_sync IS_TEMPLATE true;
\set home :DBNAME
\c regress_pfa_sync
CREATE EXTENSION pfa_vanguard;

-- nothing there
SELECT pfa_sync_now();
SELECT pfa_sync_wait() IS NULL AS none;
SELECT * FROM pfa_sync_status;

SET client_min_messages = warning;
CREATE SERVER pems FOREIGN DATA WRAPPER pfa_pems
    OPTIONS (base_url 'http://127.0.0.1:1', tenant 'ACME', max_retries '0');
CREATE USER MAPPING FOR CURRENT_USER SERVER pems
    OPTIONS (username 'api', password 'secret');
RESET client_min_messages;
SELECT pfa_add_organization(o, 'pems') FROM unnest('{RIO,LIMA,QUITO}'::text[]) AS o;
SELECT pfa_pause_organization('QUITO');

-- wrong arguments
SELECT pfa_sync_now('RIO', 'fast');
SELECT pfa_sync_now('RIO', NULL);
SELECT pfa_sync_now('');
SELECT pfa_sync_now('rio');
SELECT pfa_sync_now('QUITO');
CALL pfa_sync('RIO', 'fast');
CALL pfa_sync('RIO', NULL);
CALL pfa_sync('rio');
CALL pfa_sync('QUITO');
SELECT pfa_sync_wait(-1);
SELECT pfa_sync_wait(NULL, '-1 second');
SELECT pfa_sync_wait(NULL, '-1 month');
SELECT pfa_sync_cancel(-1);
SELECT pfa_sync_cancel(NULL) IS NULL AS nothing;
SELECT count(*) FROM pfa_sync_run;

-- a request that is rolled back never was
BEGIN;
SELECT count(*) FROM pfa_sync_now();
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT count(*) FROM pfa_sync_now('RIO');
ROLLBACK TO s;
COMMIT;
SELECT count(*) FROM pfa_sync_run;

-- one that is committed is there at once, and paused ones are left out
SELECT count(*), count(DISTINCT r), min(r) > 0 AS ids FROM pfa_sync_now() AS r;
SELECT organization_id, mode, status, direction FROM pfa_sync_run ORDER BY 1;
SELECT run_id AS rio FROM pfa_sync_run WHERE organization_id = 'RIO' \gset
SELECT run_id AS lima FROM pfa_sync_run WHERE organization_id = 'LIMA' \gset
SELECT organization_id, state, reason, run_id IN (:rio, :lima) AS run,
    phase, rows_seen, percent, eta, last_success_at, last_error, next_sync_at
    FROM pfa_sync_status ORDER BY 1;

-- asked again, the present run is the answer; of two modes the stronger holds
SELECT pfa_sync_now('RIO') = :rio AS same;
SELECT pfa_sync_now('RIO', 'delta') = :rio AS same;
SELECT mode FROM pfa_sync_run WHERE run_id = :rio;
SELECT pfa_sync_now('RIO', 'force') = :rio AS same;
SELECT pfa_sync_now('RIO', 'full') = :rio AS same;
SELECT mode FROM pfa_sync_run WHERE run_id = :rio;
BEGIN;
SELECT count(*) FROM pfa_sync_now(NULL, 'full');
ROLLBACK;
SELECT organization_id, mode FROM pfa_sync_run ORDER BY 1;

-- waiting
SELECT pfa_sync_wait(:rio, '0');
SELECT pfa_sync_wait(:rio, '20 milliseconds');
SELECT pfa_sync_wait(NULL, '20 milliseconds');
SET statement_timeout = '100ms';
SELECT pfa_sync_wait(:rio);
SELECT pfa_sync_wait();
RESET statement_timeout;

-- cancelling
BEGIN;
SELECT pfa_sync_cancel(:lima);
ROLLBACK;
SELECT status FROM pfa_sync_run WHERE run_id = :lima;
SELECT pfa_sync_cancel(:lima);
SELECT pfa_sync_cancel(:lima);
SELECT status, started_at, error, finished_at IS NOT NULL AS finished
    FROM pfa_sync_run WHERE run_id = :lima;
SELECT pfa_sync_wait(:lima);
SELECT state, last_error, next_sync_at > now() AS put_off
    FROM pfa_sync_status WHERE organization_id = 'LIMA';

-- nobody can wait for what he has not committed
BEGIN;
SELECT pfa_sync_now('LIMA') AS lima \gset
SELECT pfa_sync_wait(:lima);
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT pfa_sync_now('LIMA') AS lima \gset
RELEASE s;
SELECT pfa_sync_wait(NULL, '1 s');
ROLLBACK;
SELECT pfa_sync_wait(pfa_sync_now('LIMA'));
-- what somebody else has requested is another matter
BEGIN;
SELECT pfa_sync_now('RIO') = :rio AS same;
SELECT pfa_sync_wait(:rio, '0');
ROLLBACK;
-- unless it was changed here, and so is locked
SELECT pfa_sync_now('LIMA') AS lima \gset
BEGIN;
SELECT pfa_sync_now('LIMA', 'full') = :lima AS same;
SELECT pfa_sync_wait(:lima);
ROLLBACK;
SELECT pfa_sync_cancel(:lima);
-- a snapshot of old does not hide the answer
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM pfa_sync_run;
SELECT pfa_sync_cancel(:rio);
SELECT pfa_sync_wait(:rio);
ROLLBACK;

-- where nothing may be written
BEGIN READ ONLY;
SELECT pfa_sync_now('RIO');
ROLLBACK;
BEGIN READ ONLY;
SELECT pfa_sync_cancel(:rio);
ROLLBACK;
BEGIN READ ONLY;
SELECT pfa_sync_wait(:rio, '0');
ROLLBACK;

-- the foreground needs to commit
BEGIN;
CALL pfa_sync('RIO');
ROLLBACK;
DO 'BEGIN CALL pfa_sync(''RIO''); END';
CREATE PROCEDURE call_sync() LANGUAGE plpgsql AS 'BEGIN CALL pfa_sync(''RIO''); END';
CALL call_sync();
CREATE FUNCTION call_sync_f() RETURNS void LANGUAGE sql AS 'CALL pfa_sync(''RIO'')';
SELECT call_sync_f();
SELECT 1 AS one \; CALL pfa_sync('RIO');
SET default_transaction_read_only = on;
CALL pfa_sync('RIO');
RESET default_transaction_read_only;

-- nobody listens there; the queued run is performed, not another one
\set VERBOSITY sqlstate
CALL pfa_sync('RIO');
\set VERBOSITY default
SELECT status, mode, worker_pid, error LIKE 'could not read from PEMS: %' AS told
    FROM pfa_sync_run WHERE run_id = :rio;
SELECT pfa_sync_wait(:rio);
SELECT state, reason, run_id = :rio AS run, last_success_at,
    last_error LIKE 'could not read from PEMS: %' AS told, next_sync_at > now() AS later
    FROM pfa_sync_status WHERE organization_id = 'RIO';
-- the session is as it was
SELECT count(*) FROM pfa_organization;
-- of several each is tried
SELECT pfa_resume_organization('QUITO');
\set VERBOSITY sqlstate
SET default_transaction_isolation = 'serializable';
CALL pfa_sync();
RESET default_transaction_isolation;
\set VERBOSITY default
SELECT organization_id, status, count(*) FROM pfa_sync_run GROUP BY 1, 2 ORDER BY 1, 2;
SELECT pfa_sync_wait() IS NULL AS none;

-- the worst of several
INSERT INTO pfa_sync_run (organization_id, mode, status)
    VALUES ('A', 'auto', 'running'), ('B', 'auto', 'queued');
UPDATE pfa_sync_run SET status = 'completed' WHERE organization_id = 'A';
SELECT pfa_sync_wait(run_id) FROM pfa_sync_run WHERE organization_id = 'A';
DELETE FROM pfa_sync_run WHERE organization_id IN ('A', 'B');

-- a run whose process has gone is told from one that runs, and can be cancelled
INSERT INTO pfa_sync_run (organization_id, mode, status, started_at, worker_pid, worker_started_at)
    VALUES ('RIO', 'full', 'running', now(), 1, '2001-01-01') RETURNING run_id AS rio \gset
SELECT state, reason FROM pfa_sync_status WHERE organization_id = 'RIO';
BEGIN;
UPDATE pfa_organization SET database_oid = 1 WHERE organization_id = 'RIO';
SELECT state FROM pfa_sync_status WHERE organization_id = 'RIO';
ROLLBACK;
SELECT pfa_sync_cancel(:rio);
SELECT status FROM pfa_sync_run WHERE run_id = :rio;

-- a copied database
UPDATE pfa_organization SET database_oid = 1 WHERE organization_id = 'LIMA';
SELECT pfa_sync_now('LIMA');
CALL pfa_sync('LIMA');
SELECT pfa_sync_cancel(pfa_sync_now) FROM pfa_sync_now();
SELECT organization_id, state, reason, next_sync_at FROM pfa_sync_status
    WHERE state <> 'backoff' ORDER BY 1;
SELECT pfa_adopt_database();
SELECT state FROM pfa_sync_status WHERE organization_id = 'LIMA';

-- a source that has gone
DROP SERVER pems CASCADE;
SELECT organization_id, state, reason FROM pfa_sync_status ORDER BY 1;
CALL pfa_sync('RIO');
SELECT pfa_remove_organization(organization_id) FROM pfa_organization ORDER BY organization_id;
CALL pfa_sync();
SELECT count(*) FROM pfa_sync_status;

\c :home
ALTER DATABASE regress_pfa_sync IS_TEMPLATE false;
DROP DATABASE regress_pfa_sync;

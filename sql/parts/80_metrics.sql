/*
 * 80_metrics.sql: what is counted, for an exporter and for people; events,
 * alerts, workers, health.
 *
 * The views read shared memory and nothing else.  Their functions check
 * nothing of the caller: who is granted a view is granted its function too,
 * with pfa_grant_access(role, 'monitor').
 */

CREATE FUNCTION @extschema@.pfa_metrics_sync()
RETURNS TABLE (
    organization text,
    mode text,
    operations_total bigint,
    operations_success_total bigint,
    operations_failed_total bigint,
    busy_seconds_total float8)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_sync';
COMMENT ON FUNCTION @extschema@.pfa_metrics_sync() IS 'rows of the view pfa_metrics_sync';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_sync() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_sync AS
    SELECT organization, mode, operations_total, operations_success_total,
        operations_failed_total, busy_seconds_total
    FROM @extschema@.pfa_metrics_sync();
COMMENT ON VIEW @extschema@.pfa_metrics_sync IS 'syncs that ended, and the time they took, by organization and mode';

CREATE FUNCTION @extschema@.pfa_metrics_sync_errors()
RETURNS TABLE (
    organization text,
    kind text,
    errors_total bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_sync_errors';
COMMENT ON FUNCTION @extschema@.pfa_metrics_sync_errors() IS 'rows of the view pfa_metrics_sync_errors';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_sync_errors() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_sync_errors AS
    SELECT organization, kind, errors_total
    FROM @extschema@.pfa_metrics_sync_errors();
COMMENT ON VIEW @extschema@.pfa_metrics_sync_errors IS 'failed syncs by organization and kind of error';

CREATE FUNCTION @extschema@.pfa_metrics_sync_rows()
RETURNS TABLE (
    organization text,
    kind text,
    rows_total bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_sync_rows';
COMMENT ON FUNCTION @extschema@.pfa_metrics_sync_rows() IS 'rows of the view pfa_metrics_sync_rows';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_sync_rows() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_sync_rows AS
    SELECT organization, kind, rows_total
    FROM @extschema@.pfa_metrics_sync_rows();
COMMENT ON VIEW @extschema@.pfa_metrics_sync_rows IS 'records of syncs by organization and what became of them';

CREATE FUNCTION @extschema@.pfa_metrics_sync_organizations()
RETURNS TABLE (
    organization text,
    api_calls_total bigint,
    db_writes_total bigint,
    retries_total bigint,
    records_per_second float8,
    last_success_timestamp_seconds float8,
    age_seconds float8,
    running bigint,
    interval_seconds float8,
    rejected bigint,
    write_back_pending bigint,
    conflicts_open bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_sync_organizations';
COMMENT ON FUNCTION @extschema@.pfa_metrics_sync_organizations() IS 'rows of the view pfa_metrics_sync_organizations';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_sync_organizations() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_sync_organizations AS
    SELECT organization, api_calls_total, db_writes_total, retries_total,
        records_per_second, last_success_timestamp_seconds, age_seconds, running,
        interval_seconds, rejected, write_back_pending, conflicts_open
    FROM @extschema@.pfa_metrics_sync_organizations();
COMMENT ON VIEW @extschema@.pfa_metrics_sync_organizations IS 'what else is counted and known of each organization; age_seconds is the time since a sync completed, or since the organization was added or the server started if that is later, interval_seconds is 0 while it is paused';

CREATE FUNCTION @extschema@.pfa_metrics_sync_duration()
RETURNS TABLE (
    mode text,
    seconds float8[],
    seconds_bucket bigint[],
    seconds_sum float8,
    seconds_count bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_sync_duration';
COMMENT ON FUNCTION @extschema@.pfa_metrics_sync_duration() IS 'rows of the view pfa_metrics_sync_duration';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_sync_duration() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_sync_duration AS
    SELECT mode, seconds, seconds_bucket, seconds_sum, seconds_count
    FROM @extschema@.pfa_metrics_sync_duration();
COMMENT ON VIEW @extschema@.pfa_metrics_sync_duration IS 'how long completed syncs took: upper bounds, cumulative counts, sum and count';

CREATE FUNCTION @extschema@.pfa_metrics_sync_records()
RETURNS TABLE (
    mode text,
    processed float8[],
    processed_bucket bigint[],
    processed_sum float8,
    processed_count bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_sync_records';
COMMENT ON FUNCTION @extschema@.pfa_metrics_sync_records() IS 'rows of the view pfa_metrics_sync_records';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_sync_records() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_sync_records AS
    SELECT mode, processed, processed_bucket, processed_sum, processed_count
    FROM @extschema@.pfa_metrics_sync_records();
COMMENT ON VIEW @extschema@.pfa_metrics_sync_records IS 'how many records completed syncs looked at';

CREATE FUNCTION @extschema@.pfa_metrics_write_backs()
RETURNS TABLE (
    organization text,
    result text,
    writes_total bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_write_backs';
COMMENT ON FUNCTION @extschema@.pfa_metrics_write_backs() IS 'rows of the view pfa_metrics_write_backs';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_write_backs() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_write_backs AS
    SELECT organization, result, writes_total
    FROM @extschema@.pfa_metrics_write_backs();
COMMENT ON VIEW @extschema@.pfa_metrics_write_backs IS 'changes that were written to PEMS, by organization and result';

CREATE FUNCTION @extschema@.pfa_metrics_api()
RETURNS TABLE (
    endpoint text,
    requests_total bigint,
    errors_total bigint,
    requests_in_flight bigint,
    request_duration_seconds float8[],
    request_duration_seconds_bucket bigint[],
    request_duration_seconds_sum float8,
    request_duration_seconds_count bigint,
    response_size_bytes float8[],
    response_size_bytes_bucket bigint[],
    response_size_bytes_sum float8,
    response_size_bytes_count bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_api';
COMMENT ON FUNCTION @extschema@.pfa_metrics_api() IS 'rows of the view pfa_metrics_api';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_api() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_api AS
    SELECT endpoint, requests_total, errors_total, requests_in_flight,
        request_duration_seconds, request_duration_seconds_bucket,
        request_duration_seconds_sum, request_duration_seconds_count, response_size_bytes,
        response_size_bytes_bucket, response_size_bytes_sum, response_size_bytes_count
    FROM @extschema@.pfa_metrics_api();
COMMENT ON VIEW @extschema@.pfa_metrics_api IS 'calls of the SQL API by function';

CREATE FUNCTION @extschema@.pfa_metrics_db()
RETURNS TABLE (
    queries_total bigint,
    slow_queries_total bigint,
    connections_max bigint,
    query_duration_seconds float8[],
    query_duration_seconds_bucket bigint[],
    query_duration_seconds_sum float8,
    query_duration_seconds_count bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1
AS 'MODULE_PATHNAME', 'pfa_metrics_db';
COMMENT ON FUNCTION @extschema@.pfa_metrics_db() IS 'rows of the view pfa_metrics_db';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_db() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_db AS
    SELECT queries_total, slow_queries_total, connections_max, query_duration_seconds,
        query_duration_seconds_bucket, query_duration_seconds_sum,
        query_duration_seconds_count
    FROM @extschema@.pfa_metrics_db();
COMMENT ON VIEW @extschema@.pfa_metrics_db IS 'statements on tables of the extension, and the limit of connections';

CREATE FUNCTION @extschema@.pfa_metrics_db_connections()
RETURNS TABLE (
    state text,
    connections bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_db_connections';
COMMENT ON FUNCTION @extschema@.pfa_metrics_db_connections() IS 'rows of the view pfa_metrics_db_connections';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_db_connections() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_db_connections AS
    SELECT state, connections
    FROM @extschema@.pfa_metrics_db_connections();
COMMENT ON VIEW @extschema@.pfa_metrics_db_connections IS 'client connections of the cluster by state';

CREATE FUNCTION @extschema@.pfa_metrics_db_relations()
RETURNS TABLE (
    relation text,
    size_bytes bigint,
    rows bigint,
    index_hit_ratio float8,
    slow_queries_total bigint,
    slow_query_seconds_total float8)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_db_relations';
COMMENT ON FUNCTION @extschema@.pfa_metrics_db_relations() IS 'rows of the view pfa_metrics_db_relations';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_db_relations() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_db_relations AS
    SELECT relation, size_bytes, rows, index_hit_ratio, slow_queries_total,
        slow_query_seconds_total
    FROM @extschema@.pfa_metrics_db_relations();
COMMENT ON VIEW @extschema@.pfa_metrics_db_relations IS 'tables of the extension: size with indexes, estimated rows, part of index blocks found in shared buffers (NULL: none was asked for), slow statements that they are the first table of';

CREATE FUNCTION @extschema@.pfa_metrics_cache()
RETURNS TABLE (
    up bigint,
    size_bytes bigint,
    hit_ratio float8)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1
AS 'MODULE_PATHNAME', 'pfa_metrics_cache';
COMMENT ON FUNCTION @extschema@.pfa_metrics_cache() IS 'rows of the view pfa_metrics_cache';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_cache() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_cache AS
    SELECT up, size_bytes, hit_ratio
    FROM @extschema@.pfa_metrics_cache();
COMMENT ON VIEW @extschema@.pfa_metrics_cache IS 'the cache: whether it answers, its size, hits to look-ups since the server''s start (NULL: none yet)';

CREATE FUNCTION @extschema@.pfa_metrics_cache_keyspaces()
RETURNS TABLE (
    keyspace text,
    hits_total bigint,
    misses_total bigint,
    evictions_total bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_cache_keyspaces';
COMMENT ON FUNCTION @extschema@.pfa_metrics_cache_keyspaces() IS 'rows of the view pfa_metrics_cache_keyspaces';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_cache_keyspaces() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_cache_keyspaces AS
    SELECT keyspace, hits_total, misses_total, evictions_total
    FROM @extschema@.pfa_metrics_cache_keyspaces();
COMMENT ON VIEW @extschema@.pfa_metrics_cache_keyspaces IS 'look-ups of the cache by kind of key';

CREATE FUNCTION @extschema@.pfa_metrics_cache_operations()
RETURNS TABLE (
    operation text,
    duration_seconds float8[],
    duration_seconds_bucket bigint[],
    duration_seconds_sum float8,
    duration_seconds_count bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_cache_operations';
COMMENT ON FUNCTION @extschema@.pfa_metrics_cache_operations() IS 'rows of the view pfa_metrics_cache_operations';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_cache_operations() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_cache_operations AS
    SELECT operation, duration_seconds, duration_seconds_bucket, duration_seconds_sum,
        duration_seconds_count
    FROM @extschema@.pfa_metrics_cache_operations();
COMMENT ON VIEW @extschema@.pfa_metrics_cache_operations IS 'how long operations of the cache take';

CREATE FUNCTION @extschema@.pfa_metrics_workers()
RETURNS TABLE (
    worker text,
    up bigint,
    restarts_total bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_workers';
COMMENT ON FUNCTION @extschema@.pfa_metrics_workers() IS 'rows of the view pfa_metrics_workers';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_workers() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_workers AS
    SELECT worker, up, restarts_total
    FROM @extschema@.pfa_metrics_workers();
COMMENT ON VIEW @extschema@.pfa_metrics_workers IS 'processes of the extension; a sync worker is up when there is work, so up is NULL';

CREATE FUNCTION @extschema@.pfa_metrics_mv()
RETURNS TABLE (
    view text,
    age_seconds float8)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_mv';
COMMENT ON FUNCTION @extschema@.pfa_metrics_mv() IS 'rows of the view pfa_metrics_mv';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_mv() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_mv AS
    SELECT view, age_seconds
    FROM @extschema@.pfa_metrics_mv();
COMMENT ON VIEW @extschema@.pfa_metrics_mv IS 'time since the last refresh of each materialized view';

CREATE FUNCTION @extschema@.pfa_metrics_events()
RETURNS TABLE (
    level text,
    events_total bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'pfa_metrics_events';
COMMENT ON FUNCTION @extschema@.pfa_metrics_events() IS 'rows of the view pfa_metrics_events';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_events() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_events AS
    SELECT level, events_total
    FROM @extschema@.pfa_metrics_events();
COMMENT ON VIEW @extschema@.pfa_metrics_events IS 'events by level';

CREATE FUNCTION @extschema@.pfa_metrics_server()
RETURNS TABLE (
    version text,
    start_time_seconds float8,
    facts_timestamp_seconds float8,
    organizations bigint,
    organizations_max bigint,
    events_dropped_total bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1
AS 'MODULE_PATHNAME', 'pfa_metrics_server';
COMMENT ON FUNCTION @extschema@.pfa_metrics_server() IS 'rows of the view pfa_metrics_server';
REVOKE ALL ON FUNCTION @extschema@.pfa_metrics_server() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_metrics_server AS
    SELECT version, start_time_seconds, facts_timestamp_seconds, organizations,
        organizations_max, events_dropped_total
    FROM @extschema@.pfa_metrics_server();
COMMENT ON VIEW @extschema@.pfa_metrics_server IS 'since when is counted, when the scheduler last looked at the tables, how many organizations have metrics of their own, events that found no place';

/* ---- the same for people ---- */

CREATE VIEW @extschema@.pfa_metrics (name, type, labels, value) AS
    SELECT v.name, v.type, pg_catalog.jsonb_build_object('organization', s.organization, 'mode', s.mode), v.value
    FROM @extschema@.pfa_metrics_sync s, LATERAL (VALUES
            ('pfa_sync_operations_total', 'counter', s.operations_total::float8),
            ('pfa_sync_operations_success_total', 'counter', s.operations_success_total::float8),
            ('pfa_sync_operations_failed_total', 'counter', s.operations_failed_total::float8),
            ('pfa_sync_busy_seconds_total', 'counter', s.busy_seconds_total::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT v.name, v.type, pg_catalog.jsonb_build_object('organization', s.organization, 'kind', s.kind), v.value
    FROM @extschema@.pfa_metrics_sync_errors s, LATERAL (VALUES
            ('pfa_sync_errors_total', 'counter', s.errors_total::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT v.name, v.type, pg_catalog.jsonb_build_object('organization', s.organization, 'kind', s.kind), v.value
    FROM @extschema@.pfa_metrics_sync_rows s, LATERAL (VALUES
            ('pfa_sync_rows_total', 'counter', s.rows_total::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT v.name, v.type, pg_catalog.jsonb_build_object('organization', s.organization), v.value
    FROM @extschema@.pfa_metrics_sync_organizations s, LATERAL (VALUES
            ('pfa_sync_api_calls_total', 'counter', s.api_calls_total::float8),
            ('pfa_sync_db_writes_total', 'counter', s.db_writes_total::float8),
            ('pfa_sync_retries_total', 'counter', s.retries_total::float8),
            ('pfa_sync_records_per_second', 'gauge', s.records_per_second::float8),
            ('pfa_sync_last_success_timestamp_seconds', 'gauge', s.last_success_timestamp_seconds::float8),
            ('pfa_sync_age_seconds', 'gauge', s.age_seconds::float8),
            ('pfa_sync_running', 'gauge', s.running::float8),
            ('pfa_sync_interval_seconds', 'gauge', s.interval_seconds::float8),
            ('pfa_sync_records_rejected', 'gauge', s.rejected::float8),
            ('pfa_write_back_pending', 'gauge', s.write_back_pending::float8),
            ('pfa_conflicts_open', 'gauge', s.conflicts_open::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT 'pfa_sync_duration_seconds' || v.suffix, 'histogram', pg_catalog.jsonb_build_object('mode', s.mode) || v.le, v.value
    FROM @extschema@.pfa_metrics_sync_duration s, LATERAL (
        SELECT '_bucket', pg_catalog.jsonb_build_object('le', b.bound::text), b.n::float8
            FROM ROWS FROM (pg_catalog.unnest(s.seconds), pg_catalog.unnest(s.seconds_bucket)) b (bound, n)
        UNION ALL VALUES ('_bucket', '{"le": "+Inf"}'::jsonb, s.seconds_count::float8),
            ('_sum', '{}', s.seconds_sum), ('_count', '{}', s.seconds_count::float8)) v (suffix, le, value)
    UNION ALL
    SELECT 'pfa_sync_records_processed' || v.suffix, 'histogram', pg_catalog.jsonb_build_object('mode', s.mode) || v.le, v.value
    FROM @extschema@.pfa_metrics_sync_records s, LATERAL (
        SELECT '_bucket', pg_catalog.jsonb_build_object('le', b.bound::text), b.n::float8
            FROM ROWS FROM (pg_catalog.unnest(s.processed), pg_catalog.unnest(s.processed_bucket)) b (bound, n)
        UNION ALL VALUES ('_bucket', '{"le": "+Inf"}'::jsonb, s.processed_count::float8),
            ('_sum', '{}', s.processed_sum), ('_count', '{}', s.processed_count::float8)) v (suffix, le, value)
    UNION ALL
    SELECT v.name, v.type, pg_catalog.jsonb_build_object('organization', s.organization, 'result', s.result), v.value
    FROM @extschema@.pfa_metrics_write_backs s, LATERAL (VALUES
            ('pfa_write_back_total', 'counter', s.writes_total::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT v.name, v.type, pg_catalog.jsonb_build_object('endpoint', s.endpoint), v.value
    FROM @extschema@.pfa_metrics_api s, LATERAL (VALUES
            ('pfa_api_requests_total', 'counter', s.requests_total::float8),
            ('pfa_api_errors_total', 'counter', s.errors_total::float8),
            ('pfa_api_requests_in_flight', 'gauge', s.requests_in_flight::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT 'pfa_api_request_duration_seconds' || v.suffix, 'histogram', pg_catalog.jsonb_build_object('endpoint', s.endpoint) || v.le, v.value
    FROM @extschema@.pfa_metrics_api s, LATERAL (
        SELECT '_bucket', pg_catalog.jsonb_build_object('le', b.bound::text), b.n::float8
            FROM ROWS FROM (pg_catalog.unnest(s.request_duration_seconds), pg_catalog.unnest(s.request_duration_seconds_bucket)) b (bound, n)
        UNION ALL VALUES ('_bucket', '{"le": "+Inf"}'::jsonb, s.request_duration_seconds_count::float8),
            ('_sum', '{}', s.request_duration_seconds_sum), ('_count', '{}', s.request_duration_seconds_count::float8)) v (suffix, le, value)
    UNION ALL
    SELECT 'pfa_api_response_size_bytes' || v.suffix, 'histogram', pg_catalog.jsonb_build_object('endpoint', s.endpoint) || v.le, v.value
    FROM @extschema@.pfa_metrics_api s, LATERAL (
        SELECT '_bucket', pg_catalog.jsonb_build_object('le', b.bound::text), b.n::float8
            FROM ROWS FROM (pg_catalog.unnest(s.response_size_bytes), pg_catalog.unnest(s.response_size_bytes_bucket)) b (bound, n)
        UNION ALL VALUES ('_bucket', '{"le": "+Inf"}'::jsonb, s.response_size_bytes_count::float8),
            ('_sum', '{}', s.response_size_bytes_sum), ('_count', '{}', s.response_size_bytes_count::float8)) v (suffix, le, value)
    UNION ALL
    SELECT v.name, v.type, '{}'::jsonb, v.value
    FROM @extschema@.pfa_metrics_db s, LATERAL (VALUES
            ('pfa_db_queries_total', 'counter', s.queries_total::float8),
            ('pfa_db_slow_queries_total', 'counter', s.slow_queries_total::float8),
            ('pfa_db_connections_max', 'gauge', s.connections_max::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT 'pfa_db_query_duration_seconds' || v.suffix, 'histogram', '{}'::jsonb || v.le, v.value
    FROM @extschema@.pfa_metrics_db s, LATERAL (
        SELECT '_bucket', pg_catalog.jsonb_build_object('le', b.bound::text), b.n::float8
            FROM ROWS FROM (pg_catalog.unnest(s.query_duration_seconds), pg_catalog.unnest(s.query_duration_seconds_bucket)) b (bound, n)
        UNION ALL VALUES ('_bucket', '{"le": "+Inf"}'::jsonb, s.query_duration_seconds_count::float8),
            ('_sum', '{}', s.query_duration_seconds_sum), ('_count', '{}', s.query_duration_seconds_count::float8)) v (suffix, le, value)
    UNION ALL
    SELECT v.name, v.type, pg_catalog.jsonb_build_object('state', s.state), v.value
    FROM @extschema@.pfa_metrics_db_connections s, LATERAL (VALUES
            ('pfa_db_connections', 'gauge', s.connections::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT v.name, v.type, pg_catalog.jsonb_build_object('relation', s.relation), v.value
    FROM @extschema@.pfa_metrics_db_relations s, LATERAL (VALUES
            ('pfa_db_table_size_bytes', 'gauge', s.size_bytes::float8),
            ('pfa_db_table_rows', 'gauge', s.rows::float8),
            ('pfa_db_index_hit_ratio', 'gauge', s.index_hit_ratio::float8),
            ('pfa_db_relation_slow_queries_total', 'counter', s.slow_queries_total::float8),
            ('pfa_db_relation_slow_query_seconds_total', 'counter', s.slow_query_seconds_total::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT v.name, v.type, '{}'::jsonb, v.value
    FROM @extschema@.pfa_metrics_cache s, LATERAL (VALUES
            ('pfa_cache_up', 'gauge', s.up::float8),
            ('pfa_cache_size_bytes', 'gauge', s.size_bytes::float8),
            ('pfa_cache_hit_ratio', 'gauge', s.hit_ratio::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT v.name, v.type, pg_catalog.jsonb_build_object('keyspace', s.keyspace), v.value
    FROM @extschema@.pfa_metrics_cache_keyspaces s, LATERAL (VALUES
            ('pfa_cache_hits_total', 'counter', s.hits_total::float8),
            ('pfa_cache_misses_total', 'counter', s.misses_total::float8),
            ('pfa_cache_evictions_total', 'counter', s.evictions_total::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT 'pfa_cache_operation_duration_seconds' || v.suffix, 'histogram', pg_catalog.jsonb_build_object('operation', s.operation) || v.le, v.value
    FROM @extschema@.pfa_metrics_cache_operations s, LATERAL (
        SELECT '_bucket', pg_catalog.jsonb_build_object('le', b.bound::text), b.n::float8
            FROM ROWS FROM (pg_catalog.unnest(s.duration_seconds), pg_catalog.unnest(s.duration_seconds_bucket)) b (bound, n)
        UNION ALL VALUES ('_bucket', '{"le": "+Inf"}'::jsonb, s.duration_seconds_count::float8),
            ('_sum', '{}', s.duration_seconds_sum), ('_count', '{}', s.duration_seconds_count::float8)) v (suffix, le, value)
    UNION ALL
    SELECT v.name, v.type, pg_catalog.jsonb_build_object('worker', s.worker), v.value
    FROM @extschema@.pfa_metrics_workers s, LATERAL (VALUES
            ('pfa_worker_up', 'gauge', s.up::float8),
            ('pfa_worker_restarts_total', 'counter', s.restarts_total::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT v.name, v.type, pg_catalog.jsonb_build_object('view', s.view), v.value
    FROM @extschema@.pfa_metrics_mv s, LATERAL (VALUES
            ('pfa_mv_age_seconds', 'gauge', s.age_seconds::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT v.name, v.type, pg_catalog.jsonb_build_object('level', s.level), v.value
    FROM @extschema@.pfa_metrics_events s, LATERAL (VALUES
            ('pfa_events_total', 'counter', s.events_total::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT v.name, v.type, '{}'::jsonb, v.value
    FROM @extschema@.pfa_metrics_server s, LATERAL (VALUES
            ('pfa_metrics_start_time_seconds', 'gauge', s.start_time_seconds::float8),
            ('pfa_metrics_facts_timestamp_seconds', 'gauge', s.facts_timestamp_seconds::float8),
            ('pfa_metrics_organizations', 'gauge', s.organizations::float8),
            ('pfa_metrics_organizations_max', 'gauge', s.organizations_max::float8),
            ('pfa_metrics_events_dropped_total', 'counter', s.events_dropped_total::float8)) v (name, type, value)
    WHERE v.value IS NOT NULL
    UNION ALL
    SELECT 'pfa_build_info', 'gauge', pg_catalog.jsonb_build_object('version', s.version), 1
    FROM @extschema@.pfa_metrics_server s;
COMMENT ON VIEW @extschema@.pfa_metrics IS 'every metric under the name that Prometheus knows it by';
COMMENT ON COLUMN @extschema@.pfa_metrics.type IS 'counter, gauge or histogram';

/* ---- events ---- */

CREATE VIEW @extschema@.pfa_error_log AS
    SELECT event_id, logged_at, component, organization_id, run_id, code,
        message, COALESCE((context ->> 'repeats')::bigint, 1) AS repeats, context
    FROM @extschema@.pfa_event_log
    WHERE level = 'error';
COMMENT ON VIEW @extschema@.pfa_error_log IS 'errors among the events; repeats is how often one happened within a minute';
CREATE INDEX pfa_event_log_errors ON @extschema@.pfa_event_log (logged_at)
    WHERE level = 'error';

/* ---- alerts, workers, health ---- */

CREATE FUNCTION @extschema@.pfa_alerts_rows()
RETURNS TABLE (
    alert text,
    severity text,
    organization_id text,
    state text,
    since timestamptz,
    value float8,
    threshold float8,
    summary text)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 5
AS 'MODULE_PATHNAME', 'pfa_alerts_rows';
COMMENT ON FUNCTION @extschema@.pfa_alerts_rows() IS 'rows of the view pfa_alerts';
REVOKE ALL ON FUNCTION @extschema@.pfa_alerts_rows() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_alerts AS
    SELECT alert, severity, organization_id, state, since, value, threshold, summary
    FROM @extschema@.pfa_alerts_rows();
COMMENT ON VIEW @extschema@.pfa_alerts IS 'alert conditions that hold at this moment, judged each ten seconds; what begins to fire and what ends is sent to the channel pfa_alert';
COMMENT ON COLUMN @extschema@.pfa_alerts.state IS 'firing, or pending: its condition holds, but not for long enough yet';

CREATE FUNCTION @extschema@.pfa_workers_rows()
RETURNS TABLE (
    worker text,
    state text,
    pid integer,
    organization_id text,
    run_id bigint,
    started_at timestamptz,
    restarts bigint,
    last_error text,
    last_error_at timestamptz)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 5
AS 'MODULE_PATHNAME', 'pfa_workers_rows';
COMMENT ON FUNCTION @extschema@.pfa_workers_rows() IS 'rows of the view pfa_workers';
REVOKE ALL ON FUNCTION @extschema@.pfa_workers_rows() FROM PUBLIC;
CREATE VIEW @extschema@.pfa_workers AS
    SELECT worker, state, pid, organization_id, run_id, started_at, restarts,
        last_error, last_error_at
    FROM @extschema@.pfa_workers_rows();
COMMENT ON VIEW @extschema@.pfa_workers IS 'processes of the extension that work for this database';
COMMENT ON COLUMN @extschema@.pfa_workers.restarts IS 'how often it had to be started again since the server''s start';

CREATE FUNCTION @extschema@.pfa_health() RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'pfa_health';
COMMENT ON FUNCTION @extschema@.pfa_health() IS 'whether all is well: status is ok, degraded or down, checks say why; reads no table';
REVOKE ALL ON FUNCTION @extschema@.pfa_health() FROM PUBLIC;

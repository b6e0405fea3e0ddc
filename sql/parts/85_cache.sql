/*
 * 85_cache.sql: what makes the cache notice changes, and the cache for
 * applications.
 *
 * The triggers fire always, for replication too.  While one is missing or
 * disabled nothing is cached (src/catalog/cache_watch.c).
 */

CREATE FUNCTION @extschema@.pfa_note_change() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_note_change';
COMMENT ON FUNCTION @extschema@.pfa_note_change() IS 'trigger: tells the cache, when the transaction commits, what it has changed';
REVOKE ALL ON FUNCTION @extschema@.pfa_note_change() FROM PUBLIC;

CREATE TRIGGER pfa_note_change
    BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.pfa_mirror
    FOR EACH ROW EXECUTE FUNCTION @extschema@.pfa_note_change('records');
CREATE TRIGGER pfa_note_truncate AFTER TRUNCATE ON @extschema@.pfa_mirror
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.pfa_note_change('records');
ALTER TABLE @extschema@.pfa_mirror ENABLE ALWAYS TRIGGER pfa_note_change;
ALTER TABLE @extschema@.pfa_mirror ENABLE ALWAYS TRIGGER pfa_note_truncate;

CREATE TRIGGER pfa_note_change
    BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.pfa_modification
    FOR EACH ROW EXECUTE FUNCTION @extschema@.pfa_note_change('modification');
CREATE TRIGGER pfa_note_truncate AFTER TRUNCATE ON @extschema@.pfa_modification
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.pfa_note_change('modification');
ALTER TABLE @extschema@.pfa_modification ENABLE ALWAYS TRIGGER pfa_note_change;
ALTER TABLE @extschema@.pfa_modification ENABLE ALWAYS TRIGGER pfa_note_truncate;

CREATE TRIGGER pfa_note_change
    BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.pfa_sync_state
    FOR EACH ROW EXECUTE FUNCTION @extschema@.pfa_note_change('schedule');
CREATE TRIGGER pfa_note_truncate AFTER TRUNCATE ON @extschema@.pfa_sync_state
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.pfa_note_change('schedule');
ALTER TABLE @extschema@.pfa_sync_state ENABLE ALWAYS TRIGGER pfa_note_change;
ALTER TABLE @extschema@.pfa_sync_state ENABLE ALWAYS TRIGGER pfa_note_truncate;

CREATE TRIGGER pfa_note_change
    BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.pfa_organization
    FOR EACH ROW EXECUTE FUNCTION @extschema@.pfa_note_change('organization');
CREATE TRIGGER pfa_note_truncate AFTER TRUNCATE ON @extschema@.pfa_organization
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.pfa_note_change('organization');
ALTER TABLE @extschema@.pfa_organization ENABLE ALWAYS TRIGGER pfa_note_change;
ALTER TABLE @extschema@.pfa_organization ENABLE ALWAYS TRIGGER pfa_note_truncate;

CREATE TRIGGER pfa_note_change
    BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.pfa_user_organization
    FOR EACH ROW EXECUTE FUNCTION @extschema@.pfa_note_change('member');
CREATE TRIGGER pfa_note_truncate AFTER TRUNCATE ON @extschema@.pfa_user_organization
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.pfa_note_change('member');
ALTER TABLE @extschema@.pfa_user_organization ENABLE ALWAYS TRIGGER pfa_note_change;
ALTER TABLE @extschema@.pfa_user_organization ENABLE ALWAYS TRIGGER pfa_note_truncate;

CREATE TRIGGER pfa_note_change
    BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.pfa_field_mapping
    FOR EACH ROW EXECUTE FUNCTION @extschema@.pfa_note_change('mapping');
CREATE TRIGGER pfa_note_truncate AFTER TRUNCATE ON @extschema@.pfa_field_mapping
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.pfa_note_change('mapping');
ALTER TABLE @extschema@.pfa_field_mapping ENABLE ALWAYS TRIGGER pfa_note_change;
ALTER TABLE @extschema@.pfa_field_mapping ENABLE ALWAYS TRIGGER pfa_note_truncate;

/* ---- calls ---- */

CREATE FUNCTION @extschema@.pfa_cache_get(key text) RETURNS jsonb
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_cache_get';
COMMENT ON FUNCTION @extschema@.pfa_cache_get(text) IS 'what the cache holds under a key, NULL if nothing; for roles that may speak for users';
REVOKE ALL ON FUNCTION @extschema@.pfa_cache_get(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_cache_set(key text, value jsonb, ttl interval) RETURNS boolean
LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_cache_set';
COMMENT ON FUNCTION @extschema@.pfa_cache_set(text, jsonb, interval) IS 'keeps a value in the cache, true if it could be; below pfa:ORGANIZATION:, org:ORGANIZATION: and user:USER: it is dropped when these change; for roles that may speak for users';
REVOKE ALL ON FUNCTION @extschema@.pfa_cache_set(text, jsonb, interval) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_cache_invalidate(pattern text) RETURNS bigint
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_cache_invalidate';
COMMENT ON FUNCTION @extschema@.pfa_cache_invalidate(text) IS 'drops what the cache holds under keys that match a pattern (*, ?, [a-z]), and returns how many; changes do so by themselves';
REVOKE ALL ON FUNCTION @extschema@.pfa_cache_invalidate(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_cache_stats_rows()
RETURNS TABLE (
    keyspace text, backend text, up boolean,
    hits bigint, misses bigint, hit_rate float8,
    fills bigint, evictions bigint,
    entries bigint, size_bytes bigint, max_bytes bigint,
    bypasses bigint, waits bigint, too_large bigint, rejected bigint, errors bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 7
AS 'MODULE_PATHNAME', 'pfa_cache_stats_rows';
COMMENT ON FUNCTION @extschema@.pfa_cache_stats_rows() IS 'rows of the view pfa_cache_stats';
REVOKE ALL ON FUNCTION @extschema@.pfa_cache_stats_rows() FROM PUBLIC;

CREATE VIEW @extschema@.pfa_cache_stats AS
    SELECT keyspace, backend, up, hits, misses, hit_rate, fills, evictions,
        entries, size_bytes, max_bytes, bypasses, waits, too_large, rejected, errors
    FROM @extschema@.pfa_cache_stats_rows();
COMMENT ON VIEW @extschema@.pfa_cache_stats IS 'the cache since the server''s start, a row a kind of key and one for all of them';
COMMENT ON COLUMN @extschema@.pfa_cache_stats.keyspace IS 'data, stats, config, permissions, ai, other, or all';
COMMENT ON COLUMN @extschema@.pfa_cache_stats.backend IS 'shared_memory, redis or off: pfa_vanguard.cache_backend in this session';
COMMENT ON COLUMN @extschema@.pfa_cache_stats.up IS 'whether it answers';
COMMENT ON COLUMN @extschema@.pfa_cache_stats.hit_rate IS 'hits to look-ups; NULL: none yet';
COMMENT ON COLUMN @extschema@.pfa_cache_stats.fills IS 'answers kept';
COMMENT ON COLUMN @extschema@.pfa_cache_stats.evictions IS 'answers dropped to make room';
COMMENT ON COLUMN @extschema@.pfa_cache_stats.size_bytes IS 'NULL: Redis knows';
COMMENT ON COLUMN @extschema@.pfa_cache_stats.bypasses IS 'calls that read the tables because their transaction had changed something, or its snapshot was older than the last change';
COMMENT ON COLUMN @extschema@.pfa_cache_stats.waits IS 'calls that waited for another one to compute the same answer';
COMMENT ON COLUMN @extschema@.pfa_cache_stats.too_large IS 'answers too large to be kept';
COMMENT ON COLUMN @extschema@.pfa_cache_stats.rejected IS 'values in Redis that this server has not written there';
COMMENT ON COLUMN @extschema@.pfa_cache_stats.errors IS 'operations that Redis did not answer, or refused';

CREATE FUNCTION @extschema@.pfa_prewarm()
RETURNS TABLE (relation text, blocks bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 15
AS 'MODULE_PATHNAME', 'pfa_prewarm';
COMMENT ON FUNCTION @extschema@.pfa_prewarm() IS 'loads mirror, modifications and their indexes into shared buffers, as far as these go; takes pg_prewarm to be installed';
REVOKE ALL ON FUNCTION @extschema@.pfa_prewarm() FROM PUBLIC;

REVOKE ALL ON @extschema@.pfa_cache_stats FROM PUBLIC;

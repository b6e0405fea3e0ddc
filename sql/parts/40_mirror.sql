/*
 * 40_mirror.sql: pfa_mirror's columns repeat data, whoever writes.
 *
 * Syncs write rows that are complete and do not fire this trigger; it is for
 * writes by SQL, a restore among them.
 */

CREATE FUNCTION @extschema@.pfa_mirror_derive()
    RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'pfa_mirror_derive';
REVOKE ALL ON FUNCTION @extschema@.pfa_mirror_derive() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.pfa_mirror_derive() IS 'trigger: fills the columns of pfa_mirror from data, and version, synced_at and content_hash where data changed';

CREATE TRIGGER pfa_mirror_derive
    BEFORE INSERT OR UPDATE ON @extschema@.pfa_mirror
    FOR EACH ROW EXECUTE FUNCTION @extschema@.pfa_mirror_derive();

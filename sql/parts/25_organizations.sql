/*
 * 25_organizations.sql: what is synced.
 *
 * These functions run with their caller's rights, so that the role that adds
 * an organization is the one whose user mapping is used; what they do to our
 * tables is done by C code as the extension's owner.
 */

CREATE FUNCTION @extschema@.pfa_add_organization(
    organization_id text,
    server name,
    pems_organization text DEFAULT NULL,
    sync_interval interval DEFAULT '15 minutes')
RETURNS void
LANGUAGE c CALLED ON NULL INPUT VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_add_organization';
COMMENT ON FUNCTION @extschema@.pfa_add_organization(text, name, text, interval) IS 'begins to sync an organization from a PEMS server, with your user mapping for it; pems_organization is its code in PEMS, if that is another one';
REVOKE ALL ON FUNCTION @extschema@.pfa_add_organization(text, name, text, interval) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_remove_organization(organization_id text)
RETURNS void
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_remove_organization';
COMMENT ON FUNCTION @extschema@.pfa_remove_organization(text) IS 'ends the sync of an organization, and removes its records from the mirror';
REVOKE ALL ON FUNCTION @extschema@.pfa_remove_organization(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_pause_organization(organization_id text)
RETURNS void
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_pause_organization';
COMMENT ON FUNCTION @extschema@.pfa_pause_organization(text) IS 'begins no further sync of an organization until pfa_resume_organization; one that is running goes on';
REVOKE ALL ON FUNCTION @extschema@.pfa_pause_organization(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_resume_organization(organization_id text)
RETURNS void
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_resume_organization';
COMMENT ON FUNCTION @extschema@.pfa_resume_organization(text) IS 'syncs a paused organization again';
REVOKE ALL ON FUNCTION @extschema@.pfa_resume_organization(text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_adopt_database()
RETURNS integer
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_adopt_database';
COMMENT ON FUNCTION @extschema@.pfa_adopt_database() IS 'says that this database, a copy, is from now on the one that syncs and writes to PEMS; returns how many organizations were waiting for that';
REVOKE ALL ON FUNCTION @extschema@.pfa_adopt_database() FROM PUBLIC;

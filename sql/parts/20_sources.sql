/*
 * 20_sources.sql: where PEMS is, and with which credentials.
 *
 * The wrapper has a validator and no handler: servers and user mappings only,
 * no foreign tables.  USAGE on it is granted to nobody, as a server decides
 * where requests go.
 */

CREATE FUNCTION @extschema@.pfa_pems_validator(options text[], catalog oid)
RETURNS void
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_pems_validator';
COMMENT ON FUNCTION @extschema@.pfa_pems_validator(text[], oid) IS 'checks options of servers and user mappings of the wrapper pfa_pems';
REVOKE ALL ON FUNCTION @extschema@.pfa_pems_validator(text[], oid) FROM PUBLIC;

CREATE FOREIGN DATA WRAPPER pfa_pems
    NO HANDLER
    VALIDATOR @extschema@.pfa_pems_validator;
COMMENT ON FOREIGN DATA WRAPPER pfa_pems IS 'PEMS servers that pfa_vanguard synchronizes with';
REVOKE ALL ON FOREIGN DATA WRAPPER pfa_pems FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_set_credentials(server name, username text, secret text)
RETURNS void
LANGUAGE c CALLED ON NULL INPUT VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_set_credentials';
COMMENT ON FUNCTION @extschema@.pfa_set_credentials(name, text, text) IS 'sets username and password of your user mapping for a PEMS server, and binds them to its present address; call it with bind parameters, so that no statement text holds the secret';
REVOKE ALL ON FUNCTION @extschema@.pfa_set_credentials(name, text, text) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_bind_credentials(server name)
RETURNS void
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pfa_bind_credentials';
COMMENT ON FUNCTION @extschema@.pfa_bind_credentials(name) IS 'allows your credentials for a PEMS server to be sent to its present address';
REVOKE ALL ON FUNCTION @extschema@.pfa_bind_credentials(name) FROM PUBLIC;

CREATE FUNCTION @extschema@.pfa_test_source(server name)
RETURNS TABLE (ok boolean, latency_ms float8, records bigint, message text)
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE ROWS 1
AS 'MODULE_PATHNAME', 'pfa_test_source';
COMMENT ON FUNCTION @extschema@.pfa_test_source(name) IS 'sends one small request to a PEMS server with your credentials, and tells whether it was answered';
REVOKE ALL ON FUNCTION @extschema@.pfa_test_source(name) FROM PUBLIC;

/*
 * role.sql: the exporter's role.  Run it in the database that is scraped:
 *
 *	psql -d DATABASE -f role.sql
 *
 * Give it a password, or let pg_hba.conf decide how it comes in.
 */
\set ON_ERROR_STOP on
SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pfa_exporter') AS missing,
    n.nspname AS schema
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pfa_vanguard' \gset
\if :missing
CREATE ROLE pfa_exporter LOGIN CONNECTION LIMIT 3;
\endif
ALTER ROLE pfa_exporter SET statement_timeout = '2s';
ALTER ROLE pfa_exporter SET lock_timeout = '100ms';
ALTER ROLE pfa_exporter SET default_transaction_read_only = on;
ALTER ROLE pfa_exporter SET search_path = :"schema";
SELECT :"schema".pfa_grant_access('pfa_exporter', 'monitor');
